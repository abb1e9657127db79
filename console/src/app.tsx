import { useEffect, useRef } from "preact/hooks";
import { href, place } from "./route";
import { Audit } from "./operations/audit";
import { Events } from "./operations/events";
import { Groups } from "./operations/groups";
import { History } from "./operations/history";
import { Operations } from "./operations/home";
import { Projection, Projections } from "./operations/projection";
import { ParkedKey, ParkedKeys } from "./operations/parked";
import { Provider } from "./operations/provider";
import { Quarantine } from "./operations/quarantine";
import { Rebuild } from "./operations/rebuild";
import { Topics } from "./operations/topics-view";
import { Trace } from "./operations/trace";
import { Plan } from "./plans/plan";
import { Plans } from "./plans/view";
import { RecipeForm } from "./recipes/form";
import { Recipes } from "./recipes/list";
import { Recipe } from "./recipes/recipe";
import { ScheduleForm } from "./schedules/form";
import { Schedules } from "./schedules/list";
import { Schedule } from "./schedules/schedule";
import { Identity } from "./ui/identity";
import { refused } from "./ui/oidc";
import { Empty, Failed, Title } from "./ui/parts";

const SECTIONS: [string, string][] = [
  ["plans", "Plans"],
  ["recipes", "Recipes"],
  ["schedules", "Weather windows"],
  ["operations", "Operations"],
];

export function App() {
  const { path } = place.value;
  const section = path[0] ?? "plans";
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    // Another view: the focus goes to its heading, as it would on another page.
    if (!isFirst.current) {
      (main.current?.querySelector("h1") ?? main.current)?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    isFirst.current = false;
  }, [path.join("/")]);
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to the content
      </button>
      <header class="top">
        <a class="brand" href={href(["plans"])}>
          Almanac
        </a>
        <nav aria-label="Sections">
          {SECTIONS.map(([name, text]) => (
            <a key={name} href={href([name])} aria-current={section === name ? "page" : undefined}>
              {text}
            </a>
          ))}
        </nav>
        <Identity />
      </header>
      <main id="main" tabIndex={-1} ref={main}>
        {refused.value && <Failed problem={refused.value} />}
        <View key={path.join("/")} section={section} rest={path.slice(1)} />
      </main>
      <footer class="bottom">
        <a href="/docs">API</a> <a href="/openapi.json">OpenAPI</a> <a href="/asyncapi.json">AsyncAPI</a>
      </footer>
    </>
  );
}

function View({ section, rest }: { section: string; rest: string[] }) {
  const [id, verb, part] = rest;
  switch (section) {
    case "plans":
      return id ? <Plan id={id} /> : <Plans />;
    case "recipes":
      if (!id) return <Recipes />;
      if (id === "new") return <RecipeForm id={null} />;
      return verb === "edit" ? <RecipeForm id={id} /> : <Recipe id={id} />;
    case "schedules":
      if (!id) return <Schedules />;
      if (id === "new") return <ScheduleForm id={null} />;
      return verb === "edit" ? <ScheduleForm id={id} /> : <Schedule id={id} />;
    case "operations":
      return <OfOperations view={id} name={verb ?? null} part={part ?? null} />;
  }
  return <NotFound />;
}

function OfOperations({ view, name, part }: { view: string | undefined; name: string | null; part: string | null }) {
  switch (view) {
    case undefined:
      return <Operations />;
    case "projections":
      return name ? <Projection name={name} /> : <Projections />;
    case "parked":
      return name && part ? <ParkedKey projection={name} name={part} /> : <ParkedKeys />;
    case "quarantine":
      return <Quarantine />;
    case "topics":
      return <Topics />;
    case "groups":
      return <Groups />;
    case "trace":
      return <Trace id={name} />;
    case "history":
      return <History topic={name} id={part} />;
    case "audit":
      return <Audit />;
    case "events":
      if (name) return <Events topic={name} />;
      break;
    case "rebuilds":
      if (name) return <Rebuild id={name} />;
      break;
    case "providers":
      if (name) return <Provider name={name} />;
  }
  return <NotFound />;
}

function NotFound() {
  return (
    <>
      <Title text="Not found" />
      <Empty>
        There is no such view. <a href={href(["plans"])}>Go to plans</a>
      </Empty>
    </>
  );
}
