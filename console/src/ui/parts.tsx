// Small parts that all views use.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Problem } from "../api";
import { refine } from "../route";

/** The heading of a view. It takes the focus when the view is gone to, so that a screen reader begins there. */
export function Title({ children, text }: { children?: ComponentChildren; text: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = text === "Almanac" ? text : `${text} · Almanac`;
  }, [text]);
  useEffect(() => {
    // It went to the whole view while this was loaded; or the reader took it elsewhere.
    if (document.activeElement?.id === "main") heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <div class="title">
      <h1 tabIndex={-1} ref={heading}>
        {text}
      </h1>
      {children}
    </div>
  );
}

export function Failed({ problem, again }: { problem: Problem; again?: () => void }) {
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{sentence(problem.title)}</strong> {sentence(problem.detail)}
      </p>
      {problem.request && <p class="small">Request {problem.request}</p>}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export const sentence = (text: string): string =>
  text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** A code of the API in words: `not_modified`. */
export const spoken = (code: string): string => code.replace(/_/g, " ");

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="notice">{children}</p>;
}

export function Busy({ what }: { what: string }) {
  return (
    <p class="notice quiet" role="status">
      Loading {what}…
    </p>
  );
}

/** A table that scrolls by itself where it is wider than the page, by keys as well. */
export function Table(props: { label: string; class?: string; children: ComponentChildren }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table class={props.class ? `data ${props.class}` : "data"}>{props.children}</table>
    </div>
  );
}

/** Said to screen readers when it changes; not seen. */
export function Said({ children }: { children: ComponentChildren }) {
  return (
    <p class="unseen" role="status">
      {children}
    </p>
  );
}

interface FilterProps {
  name: string;
  label: string;
  value: string;
  type?: "search" | "text" | "date" | "datetime-local";
  /** Takes the room that others leave. */
  wide?: boolean;
  /** Characters that fit. */
  size?: number;
  inputMode?: "decimal";
  list?: string;
  placeholder?: string;
  debounceMs?: number;
}

/** A filter in the address, taken over while it is typed. */
export function Filter({ name, label, value, debounceMs = 250, wide, type = "text", ...rest }: FilterProps) {
  const [text, setText] = useState(value);
  const timer = useRef<number | undefined>(undefined);
  const typed = useRef(value);
  useEffect(() => {
    // The address changed by something else than this field.
    if (value !== typed.current) {
      typed.current = value;
      setText(value);
    }
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const take = (next: string): void => {
    typed.current = next.trim();
    refine({ [name]: next.trim() });
  };
  return (
    <label class={wide ? "filter wide" : "filter"}>
      <span>{label}</span>
      <input
        {...rest}
        type={type as "text"}
        autocomplete="off"
        name={name}
        value={text}
        onInput={(event) => {
          const next = event.currentTarget.value;
          setText(next);
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => take(next), debounceMs);
        }}
      />
    </label>
  );
}

/** Filters that a narrow screen shows when asked for, or while one of them is set. */
export function MoreFilters({ isSet, children }: { isSet: boolean; children: ComponentChildren }) {
  const [isOpen, open] = useState(isSet || matchMedia("(min-width: 40.01rem)").matches);
  return (
    <details class="filters-more" open={isOpen} onToggle={(event) => open(event.currentTarget.open)}>
      <summary>More filters</summary>
      <div>{children}</div>
    </details>
  );
}

export function Choice(props: { name: string; label: string; value: string; options: [string, string][] }) {
  return (
    <label class="filter">
      <span>{props.label}</span>
      <select
        name={props.name}
        value={props.value}
        onChange={(event) => refine({ [props.name]: event.currentTarget.value })}
      >
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A link, if it is one of the web: what a feed says may be anything. */
export function Outside({ url, children }: { url: string; children: ComponentChildren }) {
  if (!/^https?:\/\//i.test(url)) return <span>{url}</span>;
  return (
    <a href={url} rel="noreferrer noopener external" target="_blank">
      {children}
    </a>
  );
}

export const count = (number: number, one: string, many = one + "s"): string =>
  `${number.toLocaleString("en-GB")} ${number === 1 ? one : many}`;
