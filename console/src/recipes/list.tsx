import { useEffect, useState } from "preact/hooks";
import { get, type List, type Problem } from "../api";
import { href, place } from "../route";
import { Busy, Choice, count, Empty, Failed, Filter, MoreFilters, Said, Title } from "../ui/parts";
import { asProblem, useLoad } from "../ui/load";
import { type Recipe, serves, times, type Vocabulary, words } from "./model";

const FILTERS = ["ingredient", "without_ingredient", "tag", "tool", "difficulty", "max_total_time", "author"];
const PAGE = 60;

function questionOf(query: URLSearchParams): string {
  const asked = new URLSearchParams();
  for (const name of ["q", ...FILTERS]) {
    const value = query.get(name)?.trim();
    // Of several ingredients, commas between them.
    for (const one of value ? value.split(/\s*,\s*/).filter(Boolean) : []) asked.append(name, one);
  }
  asked.set("limit", String(PAGE));
  return "/v1/recipes?" + asked;
}

export function Recipes() {
  const query = place.value.query;
  const question = questionOf(query);
  const page = useLoad(question, (signal) => get<List<Recipe>>(question, signal));
  const vocabulary = useLoad("vocabulary", (signal) => get<Vocabulary>("/v1/recipes/vocabulary", signal));
  const [more, setMore] = useState<{ items: Recipe[]; next: string | null | undefined; problem: Problem | null }>(
    { items: [], next: undefined, problem: null },
  );
  useEffect(() => setMore({ items: [], next: undefined, problem: null }), [question]);
  const isCurrent = page.of === question;
  const recipes = isCurrent && page.data ? [...page.data.items, ...more.items] : [];
  const next = more.next === undefined ? page.data?.next_cursor : more.next;
  const goOn = (): void => {
    get<List<Recipe>>(`${question}&cursor=${encodeURIComponent(next ?? "")}`).then(
      (list) => setMore({ items: [...more.items, ...list.items], next: list.next_cursor, problem: null }),
      (error: unknown) => setMore({ ...more, problem: asProblem(error) }),
    );
  };
  const text = (name: string): string => query.get(name) ?? "";
  const isFiltered = ["q", ...FILTERS].some((name) => query.get(name));
  return (
    <>
      <Title text="Recipes">
        <a class="button main" href={href(["recipes", "new"])}>
          New recipe
        </a>
      </Title>
      <form class="filters" role="search" aria-label="Find recipes" onSubmit={(event) => event.preventDefault()}>
        <Filter name="q" label="Words of name and description" type="search" wide value={text("q")} />
        <MoreFilters isSet={FILTERS.some((name) => query.get(name))}>
          <Filter name="ingredient" label="With ingredients" placeholder="thyme, garlic" list="ingredients" value={text("ingredient")} />
          <Filter name="without_ingredient" label="Without" list="ingredients" value={text("without_ingredient")} />
          <Filter name="tag" label="Tag" list="tags" size={10} value={text("tag")} />
          <Filter name="tool" label="Tool" list="tools" size={10} value={text("tool")} />
          <Filter name="author" label="Author" size={10} value={text("author")} />
          <Choice
            name="difficulty"
            label="Difficulty"
            value={text("difficulty")}
            options={[["", "Any"], ["EASY", "Easy"], ["MEDIUM", "Medium"], ["HARD", "Hard"]]}
          />
          <Choice
            name="max_total_time"
            label="Time"
            value={text("max_total_time")}
            options={[["", "Any"], ["PT15M", "15 min at most"], ["PT30M", "30 min at most"], ["PT1H", "1 h at most"], ["PT2H", "2 h at most"]]}
          />
        </MoreFilters>
      </form>
      <Words vocabulary={vocabulary.data} />
      {page.problem && <Failed problem={page.problem} again={page.again} />}
      {!isCurrent && !page.problem && !page.data && <Busy what="recipes" />}
      {isCurrent && <Said>{count(recipes.length, "recipe") + (next ? ", and more" : "")}</Said>}
      {isCurrent && recipes.length === 0 && (
        <Empty>{isFiltered ? "No recipe matches. Words are looked for whole." : "There are no recipes yet. The first one is yours to write."}</Empty>
      )}
      <ul class="recipes" aria-busy={!isCurrent}>
        {recipes.map((recipe) => (
          <Card key={recipe.id} recipe={recipe} />
        ))}
      </ul>
      {more.problem && <Failed problem={more.problem} />}
      {isCurrent && next && (
        <p class="more">
          <button type="button" onClick={goOn}>
            Show more
          </button>
          <span class="quiet">{count(recipes.length, "recipe")} shown</span>
        </p>
      )}
    </>
  );
}

function Words({ vocabulary }: { vocabulary: Vocabulary | null }) {
  const list = (id: string, values: string[] = []) => (
    <datalist id={id}>
      {values.map((value) => (
        <option key={value} value={words(value)} />
      ))}
    </datalist>
  );
  return (
    <>
      {list("ingredients", vocabulary?.ingredients)}
      {list("tags", vocabulary?.tags)}
      {list("tools", vocabulary?.tools)}
    </>
  );
}

function Card({ recipe }: { recipe: Recipe }) {
  const facts = [
    times(recipe),
    recipe.serves && `serves ${serves(recipe)}`,
    recipe.difficulty && words(recipe.difficulty),
    recipe.author && `by ${recipe.author}`,
  ].filter(Boolean);
  return (
    <li>
      <Picture recipe={recipe} width={128} />
      <div>
        <a class="name" href={href(["recipes", recipe.id])}>
          {recipe.name}
        </a>
        {recipe.description && <p class="clipped">{recipe.description}</p>}
        <p class="small">{facts.join(" · ")}</p>
      </div>
    </li>
  );
}

/** A picture says nothing that the name beside it does not. */
export function Picture({ recipe, width }: { recipe: Recipe; width: number }) {
  if (!recipe.thumbnail) return <span class="picture none" aria-hidden="true" />;
  const separator = recipe.thumbnail.includes("?") ? "&" : "?";
  return <img class="picture" src={`${recipe.thumbnail}${separator}width=${width}`} alt="" loading="lazy" decoding="async" />;
}
