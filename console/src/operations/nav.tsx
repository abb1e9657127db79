import type { ComponentChildren } from "preact";
import { href } from "../route";
import { Title } from "../ui/parts";

const VIEWS: [string | null, string][] = [
  [null, "Overview"],
  ["projections", "Projections"],
  ["parked", "Parked keys"],
  ["quarantine", "Quarantine"],
  ["topics", "Topics"],
  ["groups", "Groups"],
  ["history", "History"],
  ["trace", "Trace"],
  ["audit", "Audit"],
];

/** The heading of a view of operators, with ways to the others. */
export function Head({ at, text, children }: { at: string | null; text: string; children?: ComponentChildren }) {
  return (
    <>
      <nav class="views" aria-label="Operations">
        {VIEWS.map(([name, label]) => (
          <a key={label} href={href(name ? ["operations", name] : ["operations"])} aria-current={at === name ? "page" : undefined}>
            {label}
          </a>
        ))}
      </nav>
      <Title text={text}>{children}</Title>
    </>
  );
}
