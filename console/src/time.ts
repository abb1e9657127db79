// Times as they are shown. A plan's times stand in its provider's local time, as the API gives
// them: only what is written is taken apart, nothing is converted.

const LOCALE = "en-GB";
const day = new Intl.DateTimeFormat(LOCALE, { weekday: "long", day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
const shortDay = new Intl.DateTimeFormat(LOCALE, { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
const month = new Intl.DateTimeFormat(LOCALE, { month: "long", year: "numeric", timeZone: "UTC" });
const weekday = new Intl.DateTimeFormat(LOCALE, { weekday: "long", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(LOCALE, {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});

const shortMoment = new Intl.DateTimeFormat(LOCALE, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** `2026-11-28` of a date-time. */
export const dateOf = (time: string): string => time.slice(0, 10);
/** `20:00` of a date-time. */
export const clockOf = (time: string): string => time.slice(11, 16);
/** `UTC+01:00` of a date-time. */
export function offsetOf(time: string): string {
  const offset = /(Z|[+-]\d\d:\d\d)$/.exec(time)?.[1] ?? "";
  return offset === "Z" || offset === "+00:00" ? "UTC" : "UTC" + offset;
}

const noon = (date: string): Date => new Date(date + "T12:00:00Z");
export const longDate = (date: string): string => day.format(noon(date));
export const shortDate = (date: string): string => shortDay.format(noon(date));
export const monthOf = (date: string): string => month.format(noon(date));
export const weekdayOf = (date: string): string => weekday.format(noon(date));
/** An instant in the reader's own zone. */
export const inOwnZone = (time: string): string => moment.format(new Date(time));

/** The same where the zone and the year are said elsewhere. */
export const shortInOwnZone = (time: string): string => shortMoment.format(new Date(time));

export function today(): string {
  const now = new Date();
  const two = (number: number): string => String(number).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}

export function addDays(date: string, days: number): string {
  const moved = noon(date);
  moved.setUTCDate(moved.getUTCDate() + days);
  return moved.toISOString().slice(0, 10);
}

export function addMonths(date: string, months: number): string {
  const first = noon(date.slice(0, 8) + "01");
  first.setUTCMonth(first.getUTCMonth() + months);
  return first.toISOString().slice(0, 10);
}

/** Monday is 0. */
export const weekdayNumber = (date: string): number => (noon(date).getUTCDay() + 6) % 7;
export const mondayOf = (date: string): string => addDays(date, -weekdayNumber(date));
export const isDate = (text: string | null): text is string =>
  text !== null && /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(noon(text).getTime());

/** `4 s`, `12 min`, `3 h`, `5 days`. */
export function span(seconds: number): string {
  const rounded = Math.max(0, Math.round(seconds));
  if (rounded < 100) return `${rounded} s`;
  if (rounded < 100 * 60) return `${Math.round(rounded / 60)} min`;
  if (rounded < 48 * 3600) return `${Math.round(rounded / 3600)} h`;
  return `${Math.round(rounded / 86400)} days`;
}

export const age = (time: string, now: number): string => span((now - Date.parse(time)) / 1000);

const PARTS = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/;

/** `1 h 30 min` of an ISO 8601 duration; others are shown as they are. */
export function duration(iso: string | null | undefined): string {
  if (!iso) return "";
  const parts = PARTS.exec(iso);
  if (!parts) return iso;
  const named = [[parts[1], "d"], [parts[2], "h"], [parts[3], "min"], [parts[4], "s"]];
  return named.filter(([number]) => number).map(([number, unit]) => `${number} ${unit}`).join(" ") || iso;
}

/** An ISO 8601 duration of `1 h 30 min`, `90 min` or the like. What cannot be read is passed on as
 *  it is: the server names it at its field. */
export function isoDuration(text: string): string {
  const trimmed = text.trim();
  const parts =
    /^(?:(\d+)\s*d(?:ays?)?)?\s*(?:(\d+)\s*h(?:ours?)?)?\s*(?:(\d+)\s*m(?:in(?:utes?)?)?)?\s*(?:(\d+)\s*s(?:ec(?:onds?)?)?)?$/i.exec(trimmed);
  if (!trimmed || !parts) return trimmed;
  const [, days, hours, minutes, seconds] = parts;
  const time = (hours ? hours + "H" : "") + (minutes ? minutes + "M" : "") + (seconds ? seconds + "S" : "");
  return "P" + (days ? days + "D" : "") + (time ? "T" + time : "");
}
