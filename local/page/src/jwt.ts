/** The members of one part of a token, which are not validated. */
export type Claims = Record<string, unknown>;

/** The header and the claims of a token. Only the server checks the signature. */
export function decode(token: string): { header: Claims; claims: Claims } {
  const [header = '', claims = ''] = token.split('.');
  return { header: part(header), claims: part(claims) };
}

/** Returns the generation of a refresh token; undefined for any other text. */
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

/** An explanation of each member. */
export const EXPLANATIONS: Record<string, string> = {
  alg: 'Algorithm: how the token was signed. A server accepts only the algorithm that it expects, no matter what the token says.',
  typ: 'Type of the token. “at+jwt” is for calling the API, “rt+jwt” is for getting new tokens. A server never accepts one as the other.',
  kid: 'Key ID: the key that signed the token. It lets keys change while older tokens are still in use.',
  iss: 'Issuer: who issued the token.',
  aud: 'Audience: who the token is for. Everybody else refuses it.',
  sub: 'Subject: the id of the user.',
  sid: 'Session: one sign-in on one device. All tokens of a session have the same id.',
  iat: 'Issued at: when the token was issued.',
  nbf: 'Not before: the token is not valid before this time.',
  exp: 'Expires: the token is not valid from this time on.',
  jti: 'Token ID. No other token has the same.',
  roles: 'Roles: what the user may do. A change takes effect with the next token.',
  email_verified:
    'Whether the user has shown that the e-mail address is theirs. A change takes effect with the next token.',
  gen: 'Generation: 1 at sign-in, then one more with each refresh. Only the newest is valid; all earlier ones are spent.',
  sec: 'Secret of the session: 256 random bits. The table holds only its hash, so a copy of the table is not enough to make a token.',
  auth_time: 'When the user last entered the password.',
  abs: 'Absolute end of the session. A refresh does not change it.',
};
