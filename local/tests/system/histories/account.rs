//! What is promised about the sessions of one user: each operation as one step.
//!
//! A refresh is a write of the session beside a read of the user, so it is not quite one
//! step. What that leaves open is exactly this:
//!
//! - **A refresh that is answered with tokens is one step.** It takes effect once, at a
//!   moment between its request and its answer.
//! - **A refresh that is refused may have rotated before** ([`Answer::Unheard`]), in two
//!   cases: the SDK repeated the write because its answer was lost; or the sessions of the user
//!   were ended at the same time, and the user was read after that. The session has ended in any
//!   case, but another client may meanwhile have found the token spent.
//! - **An operation that is not answered may have taken effect or not.** A client learns
//!   neither; the successor of the token that it sent is one and the same either way.
//! - **An access token outlives its session** until it expires, so a device whose session
//!   has ended can still end all sessions. It can neither keep its own nor change the password.
//!
//! Rows that are deleted at best effort are no part of this: a session that has ended is
//! refused whether or not its row is still there.

use std::collections::BTreeMap;
use std::fmt;

use stateright::semantics::SequentialSpec;

/// A refresh token. Sessions, texts and attempts are numbered as they appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    pub session: usize,
    pub generation: u64,
    /// Two tokens with the same text are the same, byte for byte.
    pub text: usize,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Login {
        password: usize,
    },
    /// Requests with the same key are one attempt, and so are the SDK's own retries.
    Refresh {
        token: Token,
        attempt: usize,
    },
    Logout {
        session: usize,
    },
    EndAll,
    EndOthers {
        kept: usize,
    },
    ChangePassword {
        kept: usize,
        current: usize,
        new: usize,
    },
    Disable,
    Enable,
}

/// The answer to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first token of a new session, or the successor of the token that was sent.
    Issued(Token),
    Done,
    /// 401: the token, the credentials, or the session that the caller wants to keep.
    Refused,
    /// 422: the current password is wrong.
    WrongPassword,
    /// Any answer. Nobody got it.
    Unheard,
}

/// The state of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    is_active: bool,
    password: usize,
    sessions: BTreeMap<usize, Chain>,
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chain {
    is_alive: bool,
    /// The generation of the current token.
    generation: u64,
    /// The text of the current token, once somebody has got it.
    text: Option<usize>,
    /// The attempt that made the current token.
    attempt: Option<usize>,
}

impl Account {
    /// A user with password 0 and with a session for each of these first tokens.
    pub fn new(tokens: &[Token]) -> Self {
        let mut account = Self { is_active: true, password: 0, sessions: BTreeMap::new() };
        tokens.iter().for_each(|token| account.open(*token));
        account
    }

    fn open(&mut self, first: Token) {
        let Token { generation, text, .. } = first;
        let chain = Chain { is_alive: true, generation, text: Some(text), attempt: None };
        self.sessions.insert(first.session, chain);
    }

    fn is_alive(&self, session: usize) -> bool {
        self.sessions.get(&session).is_some_and(|chain| chain.is_alive)
    }

    fn end_all_but(&mut self, kept: Option<usize>) {
        let ended = self.sessions.iter_mut().filter(|(session, _)| Some(**session) != kept);
        ended.for_each(|(_, chain)| chain.is_alive = false);
    }

    /// Carries out a login that is answered so.
    fn login(&mut self, password: usize, answer: Answer) -> bool {
        let is_right = self.is_active && password == self.password;
        match answer {
            Answer::Issued(first)
                if is_right && first.generation == 1 && !self.sessions.contains_key(&first.session) =>
            {
                self.open(first);
                true
            }
            Answer::Refused => !is_right,
            _ => false,
        }
    }

    /// Carries out a refresh. Returns the successor, with its text once that is known; or
    /// `None` when the token is refused.
    fn refresh(&mut self, token: Token, attempt: usize) -> Option<&mut Chain> {
        let chain = self.sessions.get_mut(&token.session).filter(|chain| chain.is_alive)?;
        if token.generation == chain.generation {
            *chain = Chain { generation: chain.generation + 1, text: None, attempt: Some(attempt), ..*chain };
            return Some(chain);
        }
        let is_repeat = token.generation + 1 == chain.generation && chain.attempt == Some(attempt);
        chain.is_alive = is_repeat;
        is_repeat.then_some(chain)
    }

    /// Carries out an operation whose answer says nothing more than itself.
    fn other(&mut self, op: &Op) -> Answer {
        match *op {
            Op::Logout { session } => {
                if let Some(chain) = self.sessions.get_mut(&session) {
                    chain.is_alive = false;
                }
            }
            Op::EndAll if self.is_active => self.end_all_but(None),
            Op::EndOthers { kept } if self.is_active && self.is_alive(kept) => self.end_all_but(Some(kept)),
            Op::ChangePassword { current, .. } if self.is_active && current != self.password => {
                return Answer::WrongPassword;
            }
            Op::ChangePassword { kept, new, .. } if self.is_active && self.is_alive(kept) => {
                self.end_all_but(Some(kept));
                self.password = new;
            }
            Op::Disable => {
                self.is_active = false;
                self.end_all_but(None);
            }
            Op::Enable => self.is_active = true,
            _ => return Answer::Refused,
        }
        Answer::Done
    }
}

impl SequentialSpec for Account {
    type Op = Op;
    type Ret = Answer;

    /// An operation that is never answered. Nobody holds the tokens of such a login.
    fn invoke(&mut self, op: &Op) -> Answer {
        match *op {
            Op::Login { .. } => {}
            Op::Refresh { token, attempt } => drop(self.refresh(token, attempt)),
            _ => drop(self.other(op)),
        }
        Answer::Unheard
    }

    fn is_valid_step(&mut self, op: &Op, answer: &Answer) -> bool {
        match (*op, *answer) {
            (_, Answer::Unheard) => {
                self.invoke(op);
                true
            }
            (Op::Login { password }, answer) => self.login(password, answer),
            (Op::Refresh { token, attempt }, answer) => match (self.refresh(token, attempt), answer) {
                (Some(chain), Answer::Issued(issued)) => {
                    let is_successor = issued.session == token.session && issued.generation == chain.generation;
                    is_successor && *chain.text.get_or_insert(issued.text) == issued.text
                }
                (None, Answer::Refused) => true,
                _ => false,
            },
            (_, answer) => self.other(op) == answer,
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, generation, text } = self;
        write!(f, "token {generation} of session {session} (text {text})")
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login { password } => write!(f, "log in with password {password}"),
            Self::Refresh { token, attempt } => write!(f, "refresh {token} as attempt {attempt}"),
            Self::Logout { session } => write!(f, "log out of session {session}"),
            Self::EndAll => write!(f, "end all sessions"),
            Self::EndOthers { kept } => write!(f, "end all sessions but {kept}"),
            Self::ChangePassword { kept, current, new } => {
                write!(f, "change the password from {current} to {new} in session {kept}")
            }
            Self::Disable => write!(f, "disable the user"),
            Self::Enable => write!(f, "enable the user"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued(token) => write!(f, "issued {token}"),
            Self::Done => write!(f, "done"),
            Self::Refused => write!(f, "refused"),
            Self::WrongPassword => write!(f, "wrong password"),
            Self::Unheard => write!(f, "unheard"),
        }
    }
}
