//! What the functions call: a DynamoDB and a Secrets Manager on 127.0.0.1, behind TLS
//! and with a delay for each round trip.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{self, Ipv4Addr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use freshkey::token::KeyRing;
use freshkey::{App, Clock as _, SystemClock};
use local::{LocalClock, Options, System, demo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tokens::{SECRET, claims};

/// Debian's bundle of trusted certificates: about as many as in Amazon Linux 2023's.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
const ARN: &str = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:freshkey-AbCdEf";

/// A certificate for 127.0.0.1, and the files that make others trust it.
pub struct Tls {
    acceptor: TlsAcceptor,
    directory: tempfile::TempDir,
}

impl Tls {
    /// Makes a certificate and an authority that signs it, both for this run.
    pub fn new() -> Self {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Authority of a benchmark");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let all = std::fs::read_to_string(TRUSTED).unwrap() + &authority.pem();
        std::fs::write(directory.path().join("all.pem"), all).unwrap();
        std::fs::write(directory.path().join("ours.pem"), authority.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![server.der().clone(), authority.der().clone()];
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        // DynamoDB does not speak HTTP/2 either.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), directory }
    }

    /// The file with the system's trusted certificates and that of this authority.
    pub fn all(&self) -> PathBuf {
        self.file("all.pem")
    }

    /// The file with this authority's certificate alone, for programs that bring the others.
    pub fn ours(&self) -> PathBuf {
        self.file("ours.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A DynamoDB that holds the demo's users, and a Secrets Manager that holds [`SECRET`].
pub struct Aws {
    system: System,
    keys: KeyRing,
    variables: BTreeMap<String, String>,
}

impl Aws {
    /// Starts both. A round trip to them takes `delay`. The functions have these `settings`.
    pub async fn start(tls: &Tls, delay: Duration, settings: BTreeMap<String, String>) -> Self {
        let options = Options {
            template: local::TEMPLATE.into(),
            data: None,
            table_endpoint: None,
            allow_origins: Vec::new(),
            variables: settings.clone(),
            clock: LocalClock::new(Arc::new(SystemClock)),
            http_client: None,
        };
        let system = System::start(options).await.unwrap();
        let engine = system.table_endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        let table = behind_tls(tls, engine, delay).await;

        let secret = json!({ "signing": "k1", "refresh": "k1", "k1": SECRET }).to_string();
        let keys = KeyRing::parse(&secret.as_str().into()).unwrap();
        let answer = json!({ "ARN": ARN, "Name": "freshkey", "SecretString": secret }).to_string();
        let answer = move || async { ([(CONTENT_TYPE, "application/x-amz-json-1.1")], answer) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secrets = behind_tls(tls, listener.local_addr().unwrap(), delay).await;
        let manager = Router::new().route("/", post(answer));
        tokio::spawn(async move { axum::serve(listener, manager).await });

        let mut variables = settings;
        variables.remove("JWT_SECRET_KEY");
        let found = [
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_REGION", "local"),
            ("AWS_DEFAULT_REGION", "local"),
            ("AWS_ENDPOINT_URL_DYNAMODB", table.as_str()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets.as_str()),
            ("JWT_SECRET_ARN", ARN),
            ("TABLE_ENDPOINT", table.as_str()),
        ];
        variables.extend(found.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Self { system, keys, variables }
    }

    /// The environment of a function: its settings, and the addresses of both services.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Resets the table to what it is at the start of the demo.
    pub async fn reset(&self) {
        demo::set_up(self.app()).await.unwrap();
        let (_, demo) = demo::callers().unwrap().swap_remove(0);
        let store = self.app().store();
        let (_, sessions) = store.user_and_sessions(demo.user.id).await.unwrap();
        for session in sessions.iter().filter(|session| ![demo.here.id, demo.elsewhere.id].contains(&session.id)) {
            let _ = store.delete_session(session.user_id, session.id).await.unwrap();
        }
    }

    /// Checks the answer to a refresh: an access token that Freshkey accepts, and
    /// the refresh token that Freshkey itself would issue for what the table holds.
    pub async fn check_tokens(&self, presented: &str, answer: &Value) {
        let config = self.app().config();
        let now = self.system.clock().now();
        let token = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer}"));
        let access = config.access_tokens.verify(&self.keys, token("access_token"), now).unwrap();
        let presented = config.refresh_tokens.verify(&self.keys, presented, now).unwrap();
        let session = self.app().store().session(presented.user_id, presented.session_id).await.unwrap().unwrap();
        assert_eq!(session.generation, presented.generation + 1);
        assert_eq!((access.user_id, access.session_id), (session.user_id, session.id));
        assert_eq!(access.roles, config.default_roles);
        let expected = config.refresh_tokens.sign(&self.keys, &presented.successor(&session)).unwrap();
        config.refresh_tokens.verify(&self.keys, token("refresh_token"), now).unwrap();
        assert_eq!(claims(token("refresh_token")), claims(expected.expose_secret()));
    }

    fn app(&self) -> &App {
        self.system.function("login").unwrap().app()
    }
}

/// Puts `upstream` behind TLS, with a round trip of `delay`. Returns its URL.
async fn behind_tls(tls: &Tls, upstream: SocketAddr, delay: Duration) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let near = listener.local_addr().unwrap();
    let acceptor = tls.acceptor.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                client.set_nodelay(true)?;
                let (client, server) = tokio::join!(acceptor.accept(client), TcpStream::connect(upstream));
                let (mut client, mut server) = (client?, server?);
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    format!("https://{}", far(near, delay))
}

/// Returns an address that forwards to `near`. Requests arrive after `delay`, and answers
/// at once, so that a round trip takes `delay`. It runs in threads, because tokio's timer
/// ticks in milliseconds.
fn far(near: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for client in listener.incoming() {
            // TCP's handshake: the client may send a round trip later.
            let open = Instant::now() + delay;
            let (client, server) = (client.unwrap(), net::TcpStream::connect(near).unwrap());
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (send, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
            spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    let _ = send.send((Instant::now().max(open) + delay, buffer[..length].to_vec()));
                }
            });
            spawn(move || {
                for (due, bytes) in under_way {
                    sleep(due.saturating_duration_since(Instant::now()));
                    let _ = to.write_all(&bytes);
                }
                let _ = to.shutdown(Shutdown::Write);
            });
            spawn(move || {
                let (mut server, mut client) = (server, client);
                let _ = io::copy(&mut server, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}
