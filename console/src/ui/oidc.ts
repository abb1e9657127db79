// Signing in at an identity provider: OpenID Connect's authorization code flow with PKCE (RFC 7636), S256.
import { signal } from "@preact/signals";
import { Problem, signIn } from "../api";

/** What `/console.json` says of it. */
interface Provider {
  issuer: string;
  client_id: string;
  scope: string;
}

interface Discovered {
  issuer: string;
  authorization_endpoint: string;
  token_endpoint: string;
}

/** What an answer is held against, kept for this tab until it comes. */
interface Begun {
  state: string;
  nonce: string;
  verifier: string;
  /** Where the reader was. */
  view: string;
}

const KEY = "almanac.signing-in";

/** Null where nobody but the pasted token tells who acts. */
export const provider = signal<Provider | null>(null);
/** Why the last way to the provider and back led nowhere. */
export const refused = signal<Problem | null>(null);

const fail = (detail: string): Problem => new Problem(0, "signing in failed", detail);

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

const random = (): string => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** Providers are given exactly this address. */
const redirect = (): string => location.origin + "/";

async function json<T>(what: string, url: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    // Nothing of this page goes there but what is asked.
    response = await fetch(url, { ...init, credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store" });
  } catch {
    throw fail(`${what} cannot be asked from this page.`);
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok || !body || typeof body !== "object") {
    const told = (body ?? {}) as { error?: unknown; error_description?: unknown };
    throw fail(`${what} answered ${response.status}. ${String(told.error_description ?? told.error ?? "")}`.trim());
  }
  return body as T;
}

async function discover(of: Provider): Promise<Discovered> {
  const base = of.issuer.replace(/\/$/, "");
  const found = await json<Discovered>("The identity provider", `${base}/.well-known/openid-configuration`);
  if (found.issuer.replace(/\/$/, "") !== base) throw fail(`The provider calls itself ${found.issuer}, not ${of.issuer}.`);
  return found;
}

/** Leaves for the provider; it sends the reader back to `/`. */
export async function leave(of: Provider): Promise<void> {
  if (!globalThis.crypto?.subtle) throw fail("A browser signs in only over HTTPS, or on the machine itself.");
  const { authorization_endpoint } = await discover(of);
  const begun: Begun = { state: random(), nonce: random(), verifier: random(), view: location.hash };
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.verifier));
  sessionStorage.setItem(KEY, JSON.stringify(begun));
  const asked = new URL(authorization_endpoint);
  for (const [name, value] of Object.entries({
    response_type: "code",
    client_id: of.client_id,
    redirect_uri: redirect(),
    scope: of.scope,
    state: begun.state,
    nonce: begun.nonce,
    code_challenge: base64url(new Uint8Array(hash)),
    code_challenge_method: "S256",
  })) {
    asked.searchParams.set(name, value);
  }
  location.assign(asked);
}

/** Before anything is shown: who may sign in where, and the end of a way that began here. */
export async function arrive(): Promise<void> {
  const answer = new URLSearchParams(location.search);
  const isBack = answer.has("state") && (answer.has("code") || answer.has("error"));
  const kept = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  const begun = kept ? (JSON.parse(kept) as Begun) : null;
  // The code stays in no history, whatever becomes of it.
  if (isBack) {
    history.replaceState(null, "", "/" + (begun?.view ?? location.hash));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
  try {
    provider.value = (await json<{ oidc: Provider | null }>("Almanac", "/console.json")).oidc;
    if (isBack) await end(answer, begun, provider.value);
  } catch (error) {
    // Without that route there is no provider.
    if (isBack) refused.value = error instanceof Problem ? error : fail(String(error));
  }
}

async function end(answer: URLSearchParams, begun: Begun | null, of: Provider | null): Promise<void> {
  if (!begun || !of || answer.get("state") !== begun.state) throw fail("This is no answer to a sign-in that began in this tab.");
  const named = answer.get("iss");
  if (named && named !== of.issuer) throw fail(`The answer comes from ${named}.`);
  const error = answer.get("error");
  if (error) throw fail(answer.get("error_description") ?? error);
  const { token_endpoint } = await discover(of);
  const told = await json<{ access_token?: string; id_token?: string }>("The identity provider", token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: answer.get("code") ?? "",
      redirect_uri: redirect(),
      client_id: of.client_id,
      code_verifier: begun.verifier,
    }),
  });
  if (!told.access_token || !told.id_token) throw fail("The provider gave no tokens.");
  check(told.id_token, begun, of);
  signIn(told.access_token);
}

/** It came from the provider itself (OpenID Connect Core 3.1.3.7), so its claims are held against what was asked for. */
function check(token: string, begun: Begun, of: Provider): void {
  const claims = claimsOf(token);
  const audience = [claims.aud].flat();
  if (claims.iss !== of.issuer) throw fail("The identity token is of another issuer.");
  if (!audience.includes(of.client_id)) throw fail("The identity token is for another client.");
  if (claims.nonce !== begun.nonce) throw fail("The identity token is of another sign-in.");
  if (typeof claims.exp !== "number" || claims.exp * 1000 < Date.now() - 60_000) throw fail("The identity token has expired.");
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    const part = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    throw fail("The identity token cannot be read.");
  }
}
