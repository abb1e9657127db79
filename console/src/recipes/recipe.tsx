import { useRef, useState } from "preact/hooks";
import { get, type List, Problem, send } from "../api";
import { changed, href, place, refine } from "../route";
import { duration, inOwnZone } from "../time";
import { Busy, Failed, Said, Title } from "../ui/parts";
import { asProblem, useLoad } from "../ui/load";
import { Cook } from "./cook";
import { Picture } from "./list";
import { amount, type Ingredient, type Recipe as Known, serves, times, words } from "./model";

export function Recipe({ id }: { id: string }) {
  const query = place.value.query;
  const path = `/v1/recipes/${encodeURIComponent(id)}`;
  const wanted = query.get("serves");
  const question = wanted ? `${path}?serves=${encodeURIComponent(wanted)}` : path;
  const loaded = useLoad(question, (signal) => get<Known>(question, signal));
  const recipe = loaded.data;
  if (loaded.problem?.status === 410) return <Deleted path={path} restored={loaded.again} />;
  if (!recipe) {
    return (
      <>
        <Title text="Recipe" />
        {loaded.problem ? <Failed problem={loaded.problem} again={loaded.again} /> : <Busy what="the recipe" />}
      </>
    );
  }
  if (query.get("cook")) return <Cook recipe={recipe} />;
  return (
    <article class="recipe">
      <p class="way">
        <a href={href(["recipes"])}>Recipes</a>
      </p>
      <Title text={recipe.name}>
        <p class="buttons">
          <a class="button main" href={href(["recipes", id], changed({ cook: "1" }))}>
            Cook
          </a>
          <button type="button" onClick={() => print()}>
            Print
          </button>
          <a class="button" href={href(["recipes", id, "edit"])}>
            Change
          </a>
        </p>
      </Title>
      {loaded.problem && <Failed problem={loaded.problem} />}
      <div class="about">
        {recipe.thumbnail && <Picture recipe={recipe} width={512} />}
        <div>
          {recipe.description && <p class="lines">{recipe.description}</p>}
          <p class="small">
            {[recipe.author && `By ${recipe.author}`, recipe.difficulty && words(recipe.difficulty), times(recipe), recipe.calories !== null && `${recipe.calories} kcal per serving`]
              .filter(Boolean)
              .join(" · ")}
          </p>
          {recipe.tags.length > 0 && (
            <p class="small">
              {recipe.tags.map((tag) => (
                <a key={tag} class="tag" href={href(["recipes"], { tag })}>
                  {words(tag)}
                </a>
              ))}
            </p>
          )}
        </div>
      </div>
      <div class="columns">
        <section aria-labelledby="ingredients">
          <h2 id="ingredients">Ingredients</h2>
          {recipe.serves ? <Scaling recipe={recipe} wanted={wanted} /> : <p class="small">How many it serves is not known.</p>}
          <Ingredients ingredients={recipe.ingredients} />
          {recipe.tools.length > 0 && (
            <>
              <h3>Tools</h3>
              <p>{recipe.tools.map(words).join(", ")}</p>
            </>
          )}
        </section>
        <section aria-labelledby="steps">
          <h2 id="steps">Steps</h2>
          <ol class="steps">
            {recipe.steps.map((step, number) => (
              <li key={number}>
                <p class="lines">{step.text}</p>
                <p class="small">{[duration(step.duration), step.ingredients.map(words).join(", ")].filter(Boolean).join(" · ")}</p>
              </li>
            ))}
          </ol>
          {recipe.notes.length > 0 && (
            <>
              <h3>Notes</h3>
              {recipe.notes.map((note, number) => (
                <p key={number} class="lines">
                  {note}
                </p>
              ))}
            </>
          )}
        </section>
      </div>
      <Versions path={path} recipe={recipe} />
      <Thumbnail path={path} recipe={recipe} changed={loaded.again} />
      <Deletion path={path} recipe={recipe} deleted={loaded.again} />
    </article>
  );
}

function Scaling({ recipe, wanted }: { recipe: Known; wanted: string | null }) {
  const now = Number(wanted) || recipe.serves!.max;
  const to = (number: number): void => refine({ serves: String(Math.max(1, number)) });
  return (
    <div class="scaling" role="group" aria-label="Serves">
      <span>Serves <span class={wanted ? "onprint" : ""}>{wanted ?? serves(recipe)}</span></span>
      <button type="button" aria-label="Fewer" disabled={now <= 1} onClick={() => to(now - 1)}>
        −
      </button>
      <input
        aria-label="Servings"
        type="number"
        min={1}
        max={10000}
        value={wanted ?? ""}
        placeholder={String(recipe.serves!.max)}
        onChange={(event) => refine({ serves: event.currentTarget.value || null })}
      />
      <button type="button" aria-label="More" onClick={() => to(now + 1)}>
        +
      </button>
      {wanted && (
        <button type="button" class="plain" onClick={() => refine({ serves: null })}>
          As written
        </button>
      )}
      <Said>{wanted ? `Quantities for ${wanted}` : "Quantities as written"}</Said>
    </div>
  );
}

export function Ingredients({ ingredients }: { ingredients: Ingredient[] }) {
  const sections = new Map<string, Ingredient[]>();
  for (const one of ingredients) sections.set(one.section ?? "", [...(sections.get(one.section ?? "") ?? []), one]);
  return (
    <>
      {[...sections].map(([section, ofSection]) => (
        <div key={section}>
          {section && <h3>{section}</h3>}
          <ul class="ingredients">
            {ofSection.map((one, number) => (
              <li key={number}>
                <span class="amount">{amount(one.quantity)}</span>
                <span>
                  {words(one.ingredient)}
                  {one.preparation && <span class="quiet">, {one.preparation}</span>}
                </span>
              </li>
            ))}
          </ul>
        </div>
      ))}
    </>
  );
}

interface Change {
  version: number;
  type: string;
  occurred_at: string;
  changed: string[] | null;
}

function Versions({ path, recipe }: { path: string; recipe: Known }) {
  const [isOpen, open] = useState(false);
  const question = isOpen ? `${path}/history?limit=500` : "";
  const loaded = useLoad(`${question} ${recipe.version}`, (signal) =>
    question ? get<List<Change>>(question, signal) : Promise.resolve(null),
  );
  return (
    <details class="noprint" onToggle={(event) => open(event.currentTarget.open)}>
      <summary>Version {recipe.version}, {inOwnZone(recipe.updated_at)}</summary>
      {loaded.problem && <Failed problem={loaded.problem} />}
      <ol class="history">
        {loaded.data?.items.map((change) => (
          <li key={change.version}>
            {change.version}: {inOwnZone(change.occurred_at)} <code>{change.type}</code> {change.changed?.join(", ")}
          </li>
        ))}
      </ol>
    </details>
  );
}

function Thumbnail({ path, recipe, changed }: { path: string; recipe: Known; changed: () => void }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const act = async (method: string, file?: File): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await send(method, `${path}/thumbnail`, { file, version: recipe.version });
      changed();
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
    if (field.current) field.current.value = "";
  };
  return (
    <details class="noprint">
      <summary>Picture</summary>
      <label class="field">
        <span>JPEG, PNG or WebP, at most 8 MB</span>
        <input
          ref={field}
          type="file"
          accept="image/jpeg,image/png,image/webp"
          disabled={isBusy}
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            if (file) void act("PUT", file);
          }}
        />
      </label>
      {recipe.thumbnail && (
        <button type="button" disabled={isBusy} onClick={() => void act("DELETE")}>
          Take the picture away
        </button>
      )}
      {isBusy && <p role="status">Sending…</p>}
      {problem && <Failed problem={problem} />}
    </details>
  );
}

function Deletion({ path, recipe, deleted }: { path: string; recipe: Known; deleted: () => void }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const remove = async (): Promise<void> => {
    try {
      await send("DELETE", path, { version: recipe.version });
      deleted();
    } catch (error) {
      setProblem(asProblem(error));
    }
  };
  return (
    <details class="noprint">
      <summary>Delete</summary>
      <p>It can be restored by its owner afterwards.</p>
      <button type="button" class="danger" onClick={() => void remove()}>
        Delete this recipe
      </button>
      {problem && <Failed problem={problem} />}
    </details>
  );
}

function Deleted({ path, restored }: { path: string; restored: () => void }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const restore = async (): Promise<void> => {
    try {
      await send("POST", `${path}/restore`);
      restored();
    } catch (error) {
      setProblem(asProblem(error));
    }
  };
  return (
    <>
      <Title text="Deleted recipe" />
      <div class="notice">
        <p>This recipe was deleted. Its owner can restore it.</p>
        <p class="buttons">
          <button type="button" onClick={() => void restore()}>
            Restore
          </button>
          <a href={href(["recipes"])}>All recipes</a>
        </p>
      </div>
      {problem && <Failed problem={problem} />}
    </>
  );
}
