// Numbers and times in the format of the reader's browser. The words are English.

const numbers = new Intl.NumberFormat();
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const times = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

/** Formats a number. */
export const number = (value: number): string => numbers.format(value);

/** Formats a date and time, given in milliseconds since the epoch. */
export const moment = (ms: number): string => moments.format(ms);

/** Formats a time of day, given in milliseconds since the epoch. */
export const time = (ms: number): string => times.format(ms);

/** Formats a `count` of something, such as “1 request” or “20 requests”. */
export const count = (count: number, thing: string): string => `${number(count)} ${thing}${count === 1 ? '' : 's'}`;

/** Formats a duration, given in milliseconds, in its two largest units. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${number(seconds)} s`;
  if (seconds < 3600) return `${number(Math.floor(seconds / 60))} min ${number(seconds % 60)} s`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return `${number(hours)} h ${number(Math.floor((seconds % 3600) / 60))} min`;
  return `${number(Math.floor(hours / 24))} days`;
}
