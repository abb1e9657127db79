// Somebody else changed what is being changed: both versions, part by part, and a choice for each.
import { useEffect, useRef, useState } from "preact/hooks";
import { sentence, spoken } from "./parts";

type Parts = Record<string, unknown>;

export interface ConflictProps {
  /** What the change began from, what it would write, and what is there now. */
  base: Parts;
  mine: Parts;
  theirs: Parts;
  linesOf: (name: string, value: unknown) => string[];
  choose: (chosen: Parts) => void;
  cancel: () => void;
}

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);

export function Conflict({ base, mine, theirs, linesOf, choose, cancel }: ConflictProps) {
  const names = Object.keys({ ...theirs, ...mine }).filter((name) => !same(mine[name], theirs[name]));
  // What only one of both changed is theirs or mine for a reason; where both did, it is asked.
  const [taken, setTaken] = useState<Record<string, "mine" | "theirs">>(() =>
    Object.fromEntries(names.map((name) => [name, same(mine[name], base[name]) ? "theirs" : "mine"])),
  );
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const result = (of: Record<string, "mine" | "theirs">): Parts =>
    Object.fromEntries(Object.keys({ ...theirs, ...mine }).map((name) => [name, of[name] === "theirs" ? theirs[name] : mine[name]]));
  const allOf = (side: "mine" | "theirs"): void => setTaken(Object.fromEntries(names.map((name) => [name, side])));
  return (
    <section class="conflict" aria-labelledby="conflict">
      <h2 id="conflict" tabIndex={-1} ref={heading}>
        Somebody changed it in the meantime
      </h2>
      <p>Nothing of yours was written yet. Choose for each part which version it is to have.</p>
      {names.map((name) => {
        const isBoth = !same(mine[name], base[name]) && !same(theirs[name], base[name]);
        const [left, right] = difference(linesOf(name, theirs[name]), linesOf(name, mine[name]));
        return (
          <fieldset key={name} class="difference">
            <legend>
              {sentence(spoken(name)).slice(0, -1)}
              {isBoth && <span class="warn"> changed by both</span>}
            </legend>
            <Side name={name} side="theirs" text="Theirs" lines={left} chosen={taken[name]!} set={(side) => setTaken({ ...taken, [name]: side })} />
            <Side name={name} side="mine" text="Mine" lines={right} chosen={taken[name]!} set={(side) => setTaken({ ...taken, [name]: side })} />
          </fieldset>
        );
      })}
      {names.length === 0 && <p>Both versions are the same now.</p>}
      <p class="buttons">
        <button type="button" class="main" onClick={() => choose(result(taken))}>
          Write what is chosen
        </button>
        <button type="button" onClick={() => allOf("theirs")}>
          Choose all of theirs
        </button>
        <button type="button" onClick={() => allOf("mine")}>
          Choose all of mine
        </button>
        <button type="button" onClick={cancel}>
          Back to the form
        </button>
      </p>
    </section>
  );
}

interface SideProps {
  name: string;
  side: "mine" | "theirs";
  text: string;
  lines: [string, boolean][];
  chosen: "mine" | "theirs";
  set: (side: "mine" | "theirs") => void;
}

function Side({ name, side, text, lines, chosen, set }: SideProps) {
  const Changed = side === "mine" ? "ins" : "del";
  return (
    <div class={chosen === side ? "side chosen" : "side"}>
      <label class="check">
        <input type="radio" name={`take-${name}`} checked={chosen === side} onChange={() => set(side)} />
        {text}
      </label>
      <ul>
        {lines.length === 0 && <li class="quiet">(nothing)</li>}
        {lines.map(([line, isOnlyHere], number) => (
          <li key={number}>{isOnlyHere ? <Changed>{line}</Changed> : line}</li>
        ))}
      </ul>
    </div>
  );
}

/** Lines of both sides, with those marked that the other lacks (longest common subsequence). */
export function difference(left: string[], right: string[]): [[string, boolean][], [string, boolean][]] {
  const lengths = Array.from({ length: left.length + 1 }, () => new Array<number>(right.length + 1).fill(0));
  for (let l = left.length - 1; l >= 0; l--) {
    for (let r = right.length - 1; r >= 0; r--) {
      lengths[l]![r] = left[l] === right[r] ? lengths[l + 1]![r + 1]! + 1 : Math.max(lengths[l + 1]![r]!, lengths[l]![r + 1]!);
    }
  }
  const marked: [[string, boolean][], [string, boolean][]] = [[], []];
  let [l, r] = [0, 0];
  while (l < left.length || r < right.length) {
    if (l < left.length && r < right.length && left[l] === right[r]) {
      marked[0].push([left[l++]!, false]);
      marked[1].push([right[r++]!, false]);
    } else if (r >= right.length || (l < left.length && lengths[l + 1]![r]! >= lengths[l]![r + 1]!)) {
      marked[0].push([left[l++]!, true]);
    } else {
      marked[1].push([right[r++]!, true]);
    }
  }
  return marked;
}
