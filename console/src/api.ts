// Requests to Almanac: the token, consistency tokens of writes, problem documents.
import { signal } from "@preact/signals";

export interface FieldFault {
  pointer: string;
  detail: string;
}

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly faults: FieldFault[] = [],
    readonly request: string | null = null,
  ) {
    super(detail);
  }
}

export interface Answer<T> {
  body: T;
  status: number;
  headers: Headers;
}

export interface Asked {
  body?: unknown;
  /** Instead of `body`: bytes of this type. */
  file?: Blob;
  version?: number;
  signal?: AbortSignal;
  accept?: string;
}

const KEY = "almanac.token";

/** Kept for this tab only, and sent to this origin only. */
export const token = signal(sessionStorage.getItem(KEY) ?? "");

export function signIn(text: string): void {
  token.value = text.trim();
  if (token.value) sessionStorage.setItem(KEY, token.value);
  else sessionStorage.removeItem(KEY);
}

/** Who a token is of, as it says itself: for display, the server decides. */
export function subject(): string | null {
  try {
    const part = token.value.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return String((claims as { sub?: unknown }).sub ?? "");
  } catch {
    return null;
  }
}

/** Tokens of this page's writes: reads that follow wait for what these led to. */
let written: { context: string; token: string; at: number }[] = [];
const REMEMBERED_MS = 60_000;
const REMEMBERED = 8;

function contextOf(path: string): string {
  return path.split(/[/?]/)[2] ?? "";
}

function remember(path: string, token: string): void {
  written = [{ context: contextOf(path), token, at: Date.now() }, ...written].slice(0, REMEMBERED);
}

function tokensFor(path: string): string {
  const since = Date.now() - REMEMBERED_MS;
  const context = contextOf(path);
  return written
    .filter((one) => one.context === context && one.at > since)
    .map((one) => one.token)
    .join(", ");
}

/** An idempotency key. (`randomUUID` is missing where the page came over plain HTTP.) */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export function headersFor(path: string, method = "GET"): Headers {
  const headers = new Headers();
  if (token.value) headers.set("Authorization", "Bearer " + token.value);
  const tokens = method === "GET" ? tokensFor(path) : "";
  if (tokens) headers.set("Consistency-Token", tokens);
  return headers;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send<T>("GET", path, { signal })).body;
}

const ATTEMPTS = 3;

/** A request. Writes carry a key, so that one whose answer was lost is repeated without harm. */
export async function send<T>(method: string, path: string, asked: Asked = {}): Promise<Answer<T>> {
  const headers = headersFor(path, method);
  headers.set("Accept", asked.accept ?? "application/json");
  if (asked.version !== undefined) headers.set("If-Match", `"${asked.version}"`);
  let body: BodyInit | undefined;
  if (asked.file) {
    headers.set("Content-Type", asked.file.type);
    body = asked.file;
  } else if (asked.body !== undefined) {
    headers.set("Content-Type", "application/json");
    body = JSON.stringify(asked.body);
  }
  if (method !== "GET") headers.set("Idempotency-Key", newKey());
  for (let attempt = 1; ; attempt++) {
    let response: Response;
    try {
      response = await fetch(path, { method, headers, body, signal: asked.signal, cache: "no-cache" });
    } catch (error) {
      if (asked.signal?.aborted) throw error;
      if (attempt < ATTEMPTS) {
        await pause(300 * attempt, asked.signal);
        continue;
      }
      throw new Problem(0, "no answer", "Almanac does not answer. Check the connection and try again.");
    }
    if ([429, 503].includes(response.status) && attempt < ATTEMPTS) {
      const seconds = Number(response.headers.get("Retry-After") ?? 1);
      await pause(Math.min(seconds || 1, 3) * 1000, asked.signal);
      continue;
    }
    const consistency = response.headers.get("Consistency-Token");
    if (consistency && method !== "GET") remember(path, consistency);
    const location = response.headers.get("Location");
    if (response.status === 202 && location?.startsWith("/v1/commands/")) {
      return outcome<T>(location, asked.signal);
    }
    return { body: (await read(response)) as T, status: response.status, headers: response.headers };
  }
}

async function read(response: Response): Promise<unknown> {
  const text = await response.text();
  let body: unknown = text;
  if (/json/.test(response.headers.get("Content-Type") ?? "")) {
    try {
      body = JSON.parse(text);
    } catch {
      throw new Problem(response.status, "unreadable answer", "The answer is not the JSON that it claims to be.");
    }
  }
  if (response.ok) return body;
  throw problemOf(response.status, body, response.headers.get("Request-Id"));
}

export function problemOf(status: number, body: unknown, request: string | null): Problem {
  const document = (body && typeof body === "object" ? body : {}) as Record<string, unknown>;
  const title = String(document.title ?? `status ${status}`);
  const detail = String(document.detail ?? "Almanac could not answer this request.");
  const faults = Array.isArray(document.errors) ? (document.errors as FieldFault[]) : [];
  return new Problem(status, title, detail, faults, request);
}

interface Command {
  state: string;
  outcome: { status: number; headers: Record<string, string>; body: unknown } | null;
}

/** Waits for the outcome of a write that took longer than its request. */
async function outcome<T>(location: string, signal?: AbortSignal): Promise<Answer<T>> {
  for (let waited = 0; waited < 60; waited++) {
    await pause(500, signal);
    const command = await get<Command>(location, signal);
    if (!command.outcome) continue;
    const { status, headers, body } = command.outcome;
    if (status >= 400) throw problemOf(status, body, null);
    return { body: body as T, status, headers: new Headers(headers) };
  }
  throw new Problem(202, "not decided yet", "The write was taken and has no outcome yet. Look again in a moment.");
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

export interface List<T> {
  items: T[];
  next_cursor: string | null;
}

/** All pages of a list, or the first `most` items of it. */
export async function all<T>(path: string, most: number, signal?: AbortSignal): Promise<List<T>> {
  const items: T[] = [];
  let cursor: string | null = null;
  do {
    const more: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    const page: List<T> = await get<List<T>>(path + more, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, next_cursor: cursor };
}
