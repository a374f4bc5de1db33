// The types of the client library, held to those that openapi.yaml makes: this compiles, or the two differ.

import type { Credentials, ErrorCode, FieldError, LexikUser, LoginAnswer, Registration, Session, User } from '../../clients/typescript/src/index.js';
import type { components } from './.generated/schema.js';

type Schemas = components['schemas'];

/** Compiles where each value of the one type is one of the other, too, without a member that the other does not know. */
type Fits<Value extends Type, Type> = Exclude<keyof Value, keyof Type> extends never ? true : never;

/** What the server answers is what the client expects. */
export const answers: [
  Fits<Schemas['User'], User>,
  Fits<User, Schemas['User']>,
  Fits<Schemas['Session'], Session>,
  Fits<Schemas['FieldError'], FieldError>,
  Fits<Schemas['ErrorCode'], ErrorCode>,
  Fits<ErrorCode, Schemas['ErrorCode']>,
  Fits<Schemas['SignedIn'], LoginAnswer<'v1'>>,
  Fits<LoginAnswer<'v1'>, Partial<Schemas['SignedIn']>>,
  Fits<Schemas['LexikSignedIn'], LoginAnswer<'lexik'>>,
  Fits<LoginAnswer<'lexik'>, Partial<Schemas['LexikSignedIn']>>,
  Fits<Schemas['LexikUser'], LexikUser>,
  Fits<LexikUser, Schemas['LexikUser']>,
] = [true, true, true, true, true, true, true, true, true, true, true, true];

/** What the client sends is what the server takes. */
export const requests: [
  Fits<Credentials, Schemas['Credentials']>,
  Fits<Registration, Schemas['Registration']>,
  Fits<Schemas['Registration'], { [Member in keyof Registration]?: unknown }>,
] = [true, true, true];
