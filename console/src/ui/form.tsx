// Forms whose faults stand at their fields: each field knows the JSON pointer that a problem
// document would name it by.
import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useRef } from "preact/hooks";
import type { FieldFault, Problem } from "../api";
import { sentence } from "./parts";

export const Faults = createContext<FieldFault[]>([]);

const idOf = (pointer: string): string => "field" + pointer.replace(/[^\w]+/g, "-");

function useFault(pointer: string): string | null {
  const own = useContext(Faults).filter((fault) => fault.pointer === pointer);
  return own.length ? own.map((fault) => fault.detail).join("; ") : null;
}

interface FieldProps {
  pointer: string;
  label: string;
  value: string;
  set: (value: string) => void;
  hint?: string;
  rows?: number;
  list?: string;
  size?: number;
  inputMode?: "decimal" | "numeric";
  required?: boolean;
}

export function Field({ pointer, label, value, set, hint, rows, ...rest }: FieldProps) {
  const fault = useFault(pointer);
  const id = idOf(pointer);
  const shared = {
    id,
    value,
    "aria-invalid": fault ? ("true" as const) : undefined,
    "aria-describedby": [fault && `${id}-fault`, hint && `${id}-hint`].filter(Boolean).join(" ") || undefined,
    "aria-required": rest.required ? ("true" as const) : undefined,
  };
  return (
    <div class={`field ${rest.size ? "short" : ""}`}>
      <label for={id}>{label}</label>
      {rows ? (
        <textarea {...shared} rows={rows} onInput={(event) => set(event.currentTarget.value)} />
      ) : (
        <input
          {...shared}
          type="text"
          size={rest.size}
          list={rest.list}
          inputMode={rest.inputMode}
          autocomplete="off"
          onInput={(event) => set(event.currentTarget.value)}
        />
      )}
      {hint && (
        <p id={`${id}-hint`} class="small">
          {hint}
        </p>
      )}
      {fault && (
        <p id={`${id}-fault`} class="fault">
          {sentence(fault)}
        </p>
      )}
    </div>
  );
}

interface SelectProps {
  pointer: string;
  label: string;
  value: string;
  set: (value: string) => void;
  options: [string, string][];
}

export function Select({ pointer, label, value, set, options }: SelectProps) {
  const fault = useFault(pointer);
  const id = idOf(pointer);
  return (
    <div class="field short">
      <label for={id}>{label}</label>
      <select
        id={id}
        value={value}
        aria-invalid={fault ? "true" : undefined}
        aria-describedby={fault ? `${id}-fault` : undefined}
        onChange={(event) => set(event.currentTarget.value)}
      >
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
      {fault && (
        <p id={`${id}-fault`} class="fault">
          {sentence(fault)}
        </p>
      )}
    </div>
  );
}

interface GroupProps {
  pointer: string;
  legend: string;
  hint?: string;
  children: ComponentChildren;
}

/** Fields that belong together; faults of the whole stand below its name. */
export function Group({ pointer, legend, hint, children }: GroupProps) {
  const fault = useFault(pointer);
  const id = idOf(pointer);
  return (
    <fieldset id={id} tabIndex={-1} aria-describedby={fault ? `${id}-fault` : undefined}>
      <legend>{legend}</legend>
      {hint && <p class="small">{hint}</p>}
      {fault && (
        <p id={`${id}-fault`} class="fault">
          {sentence(fault)}
        </p>
      )}
      {children}
    </fieldset>
  );
}

/** All faults at once, each a way to its field. It takes the focus when it appears. */
export function FaultList({ problem }: { problem: Problem }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.focus(), [problem]);
  return (
    <div class="notice bad" role="alert" tabIndex={-1} ref={box}>
      <p>
        <strong>{sentence(problem.title)}</strong> {sentence(problem.detail)}
      </p>
      {problem.faults.length > 0 && (
        <ul class="plainlist">
          {problem.faults.map((fault) => (
            <li key={fault.pointer + fault.detail}>
              <button type="button" class="plain" onClick={() => toField(fault.pointer)}>
                {named(fault.pointer)}
              </button>{" "}
              {fault.detail}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** `#/ingredients/0/quantity/unit` as `ingredients 1, quantity, unit`. */
function named(pointer: string): string {
  const parts = pointer.replace(/^#\/?/, "").split("/").filter(Boolean);
  const words = parts.map((part) => (/^\d+$/.test(part) ? String(Number(part) + 1) : part.replace(/_/g, " ")));
  return words.join(", ").replace(/, (\d+)/g, " $1") || "the whole";
}

/** To the field, or to what it would be in. */
function toField(pointer: string): void {
  for (let at = pointer; at.length > 1; at = at.slice(0, at.lastIndexOf("/"))) {
    const field = document.getElementById(idOf(at));
    if (field) return field.focus();
  }
}
