// Something that an operator does: confirmed, with a reason for the audit, and what came of it.
import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import type { Problem } from "../api";
import { asProblem } from "./load";
import { Failed } from "./parts";

interface ActProps {
  label: string;
  /** What it is done to, for those who do not see where the button stands. */
  of: string;
  kind?: "main" | "danger";
  /** What follows from it. */
  children: ComponentChildren;
  /** The form in which the reason stands has fields of its own, too. */
  act: (reason: string, form: FormData) => Promise<void>;
}

export function Act({ label, of, kind, children, act }: ActProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [state, setState] = useState<{ isBusy: boolean; problem: Problem | null }>({ isBusy: false, problem: null });
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const given = new FormData(form);
    setState({ isBusy: true, problem: null });
    try {
      await act(String(given.get("reason") ?? "").trim(), given);
      setState({ isBusy: false, problem: null });
      dialog.current?.close();
    } catch (error) {
      setState({ isBusy: false, problem: asProblem(error) });
    }
  };
  const open = (): void => {
    setState({ isBusy: false, problem: null });
    dialog.current?.showModal();
  };
  return (
    <>
      <button type="button" class={kind} onClick={open}>
        {label}
        <span class="unseen"> {of}</span>
      </button>
      <dialog ref={dialog} aria-labelledby={`${id}-title`}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void submit(event.currentTarget);
          }}
        >
          <h2 id={`${id}-title`}>
            {label} {of}
          </h2>
          {children}
          <label class="field">
            <span>Reason</span>
            <input type="text" name="reason" autocomplete="off" maxLength={1000} aria-describedby={`${id}-hint`} />
          </label>
          <p id={`${id}-hint`} class="small">
            It stands in the audit. Only on the machine that Almanac runs on it may be left out.
          </p>
          {state.problem && <Failed problem={state.problem} />}
          <p class="buttons">
            <button type="submit" class="main" disabled={state.isBusy}>
              {state.isBusy ? "Asking…" : label}
            </button>
            <button type="button" onClick={() => dialog.current?.close()}>
              Leave it
            </button>
          </p>
        </form>
      </dialog>
    </>
  );
}
