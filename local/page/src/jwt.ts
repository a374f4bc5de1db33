/** What a part of a token says, undecided. */
export type Claims = Record<string, unknown>;

/** The header and the claims of a token. The signature is the server's to check. */
export function decode(token: string): { header: Claims; claims: Claims } {
  const [header = '', claims = ''] = token.split('.');
  return { header: part(header), claims: part(claims) };
}

/** The generation of a refresh token, or undefined if it is none. */
export function generation(refreshToken: unknown): number | undefined {
  if (typeof refreshToken !== 'string') return undefined;
  const { gen } = decode(refreshToken).claims;
  return typeof gen === 'number' ? gen : undefined;
}

function part(encoded: string): Claims {
  try {
    const binary = atob(encoded.replaceAll('-', '+').replaceAll('_', '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (char) => char.charCodeAt(0)))) as Claims;
  } catch {
    return {};
  }
}

/** Members that hold a time, in seconds since the epoch. */
export const TIMES = new Set(['iat', 'nbf', 'exp', 'auth_time', 'abs']);

/** Each member in plain words. */
export const EXPLANATIONS: Record<string, string> = {
  alg: 'How the signature was made. A server accepts only the algorithm it expects, whatever a token says here.',
  typ: 'The kind of token. “at+jwt” opens doors, “rt+jwt” gets new tokens; neither is ever taken for the other.',
  kid: 'Which key signed it, so that keys can change while older tokens are still about.',
  iss: 'Issuer: who made this token.',
  aud: 'Audience: who it is meant for. Anybody else refuses it.',
  sub: 'Subject: whose token it is, by the user’s id.',
  sid: 'Session: one sign-in on one device. All tokens that come of it carry the same.',
  iat: 'Issued at.',
  nbf: 'Not before: not good any earlier than this.',
  exp: 'Expires: no good from this moment on.',
  jti: 'This token’s own name. No other token has it.',
  roles: 'What the user may do. Read when the token was made; a change shows in the next one.',
  gen: 'Generation: 1 at sign-in, one more with each refresh. Only the newest is in force; all before it are spent.',
  sec: 'The session’s secret: 256 random bits. The table holds only a hash of it, so nobody can make a token from the table.',
  auth_time: 'When the password was last typed in.',
  abs: 'The session’s absolute end. No refresh moves it.',
};
