// The life of a form: what it began from, sending it, the faults that come back, the conflict.
import { useState } from "preact/hooks";
import { get, Problem, send } from "../api";
import { asProblem } from "./load";

interface Versioned {
  id: string;
  version: number;
}

export interface Conflicting<Body> {
  mine: Body;
  theirs: Body;
  version: number;
}

export interface Editing<Body> {
  problem: Problem | null;
  isBusy: boolean;
  conflict: Conflicting<Body> | null;
  write: (body: Body) => Promise<void>;
  /** Writes over the version that was shown in the conflict. */
  resolve: (body: Body) => Promise<void>;
  dismiss: () => void;
}

/** `known` is null for something new. */
export function useEditing<Body, Known extends Versioned>(
  collection: string,
  known: Known | null,
  bodyOf: (known: Known) => Body,
  written: (id: string) => void,
): Editing<Body> {
  const [state, setState] = useState<{ problem: Problem | null; isBusy: boolean; conflict: Conflicting<Body> | null }>(
    { problem: null, isBusy: false, conflict: null },
  );
  const put = async (body: Body, version: number | undefined): Promise<void> => {
    setState({ problem: null, isBusy: true, conflict: null });
    const path = known ? `${collection}/${known.id}` : collection;
    try {
      const answer = await send<Versioned>(known ? "PUT" : "POST", path, { body, version });
      written(answer.body.id);
    } catch (error) {
      const problem = asProblem(error);
      if (problem.status !== 412) return setState({ problem, isBusy: false, conflict: null });
      try {
        const theirs = await get<Known>(path);
        const conflict = { mine: body, theirs: bodyOf(theirs), version: theirs.version };
        setState({ problem: null, isBusy: false, conflict });
      } catch (error) {
        setState({ problem: asProblem(error), isBusy: false, conflict: null });
      }
    }
  };
  return {
    ...state,
    write: (body) => put(body, known?.version),
    resolve: (body) => put(body, state.conflict?.version),
    dismiss: () => setState({ ...state, conflict: null }),
  };
}
