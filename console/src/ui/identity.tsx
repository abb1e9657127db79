import { useRef, useState } from "preact/hooks";
import { type Problem, signIn, subject, token } from "../api";
import { asProblem } from "./load";
import { leave, provider } from "./oidc";
import { Failed } from "./parts";

/** Who acts: the one a pasted token names, otherwise whoever the server takes this machine's user for. */
export function Identity() {
  const dialog = useRef<HTMLDialogElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const name = token.value ? (subject() ?? "a token") : null;
  return (
    <div class="identity">
      {name && <span class="quiet">as {name}</span>}
      {name ? (
        <button type="button" class="plain" onClick={() => signIn("")}>
          Sign out
        </button>
      ) : (
        <button type="button" class="plain" onClick={() => dialog.current?.showModal()}>
          Sign in
        </button>
      )}
      <dialog ref={dialog} aria-labelledby="sign-in">
        <form
          method="dialog"
          onSubmit={() => {
            signIn(field.current?.value ?? "");
            if (field.current) field.current.value = "";
          }}
        >
          <h2 id="sign-in">Sign in</h2>
          {provider.value && <Elsewhere />}
          <label class="field">
            <span>{provider.value ? "Or a bearer token" : "Bearer token"}</span>
            <textarea ref={field} name="token" rows={5} required spellcheck={false} autocomplete="off" aria-describedby="sign-in-help" />
          </label>
          <p id="sign-in-help" class="small">
            It is kept for this tab only and forgotten when it closes. <code>almanac token --scope "recipes:write"</code> makes
            one for development. On the machine that Almanac listens on, you may not need one.
          </p>
          <p class="buttons">
            <button type="submit" class={provider.value ? undefined : "main"}>
              {provider.value ? "Sign in with the token" : "Sign in"}
            </button>
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
          </p>
        </form>
      </dialog>
    </div>
  );
}

/** The way to the identity provider, and what kept somebody from going. */
function Elsewhere() {
  const [problem, setProblem] = useState<Problem | null>(null);
  const known = provider.value;
  if (!known) return null;
  const go = (): void => {
    setProblem(null);
    leave(known).catch((error: unknown) => setProblem(asProblem(error)));
  };
  return (
    <>
      <p class="buttons">
        <button type="button" class="main" onClick={go}>
          Sign in at {new URL(known.issuer).host}
        </button>
      </p>
      {problem && <Failed problem={problem} />}
    </>
  );
}
