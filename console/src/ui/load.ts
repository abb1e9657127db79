// What a view loads: the newest request counts, older ones are cancelled, and what was there stays
// until the new answer is. It is loaded again when somebody signs in or out.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type List, Problem, token } from "../api";

export interface Loaded<T> {
  data: T | null;
  /** Which question `data` answers. */
  of: string;
  problem: Problem | null;
  loading: boolean;
  again: () => void;
}

export function useLoad<T>(question: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; of: string; problem: Problem | null; loading: boolean }>(
    { data: null, of: "", problem: null, loading: true },
  );
  const [round, setRound] = useState(0);
  const newest = useRef(load);
  newest.current = load;
  useEffect(() => {
    const cancel = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    newest.current(cancel.signal).then(
      (data) => {
        if (!cancel.signal.aborted) setState({ data, of: question, problem: null, loading: false });
      },
      (error: unknown) => {
        if (cancel.signal.aborted) return;
        setState((before) => ({ ...before, problem: asProblem(error), loading: false }));
      },
    );
    return () => cancel.abort();
  }, [question, round, token.value]);
  return { ...state, again: () => setRound((number) => number + 1) };
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, "the page failed", error instanceof Error ? error.message : String(error));
}

/** Pages behind the first one; another question forgets them. */
export function useMore<T>(question: string) {
  const [state, setState] = useState<{ pages: List<T>[]; loading: boolean; problem: Problem | null }>(
    { pages: [], loading: false, problem: null },
  );
  useEffect(() => setState({ pages: [], loading: false, problem: null }), [question]);
  const load = (cursor: string): void => {
    setState((before) => ({ ...before, loading: true, problem: null }));
    get<List<T>>(`${question}${question.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}`).then(
      (page) => setState((before) => ({ pages: [...before.pages, page], loading: false, problem: null })),
      (error: unknown) => setState((before) => ({ ...before, loading: false, problem: asProblem(error) })),
    );
  };
  return { ...state, load };
}

/** The time now, told again every so often while the view is there. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Does something again every so often while the view is there and seen. */
export function useEvery(everyMs: number, what: () => void): void {
  const newest = useRef(what);
  newest.current = what;
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) newest.current();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
