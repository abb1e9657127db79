import { useEffect, useState } from "preact/hooks";
import { changed, href, place } from "../route";
import { duration } from "../time";
import { Title } from "../ui/parts";
import { Ingredients } from "./recipe";
import { type Recipe, words } from "./model";

/** One step at a time, large, with the screen kept on. */
export function Cook({ recipe }: { recipe: Recipe }) {
  const [at, setAt] = useState(0);
  const isAwake = useAwake();
  const step = recipe.steps[at];
  const to = (number: number): void => setAt(Math.min(Math.max(number, 0), recipe.steps.length - 1));
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (event.key === "ArrowRight" || event.key === "PageDown") to(at + 1);
      else if (event.key === "ArrowLeft" || event.key === "PageUp") to(at - 1);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [at]);
  return (
    <article class="cook">
      <Title text={recipe.name}>
        <a class="button" href={href(place.value.path, changed({ cook: null }))}>
          Done
        </a>
      </Title>
      <p class="small" role="status">
        {isAwake ? "The screen stays on." : "This browser does not keep the screen on here."}
      </p>
      <section aria-live="polite" aria-label={`Step ${at + 1} of ${recipe.steps.length}`}>
        <p class="small">
          Step {at + 1} of {recipe.steps.length}
          {step?.duration && ` · ${duration(step.duration)}`}
        </p>
        <p class="step lines">{step?.text}</p>
        {step && step.ingredients.length > 0 && (
          <Ingredients ingredients={recipe.ingredients.filter((one) => step.ingredients.includes(one.ingredient))} />
        )}
      </section>
      <p class="buttons">
        <button type="button" disabled={at === 0} onClick={() => to(at - 1)}>
          Previous
        </button>
        <button type="button" class="main" disabled={at === recipe.steps.length - 1} onClick={() => to(at + 1)}>
          Next step
        </button>
      </p>
      <details>
        <summary>All ingredients</summary>
        <Ingredients ingredients={recipe.ingredients} />
        {recipe.tools.length > 0 && <p>{recipe.tools.map(words).join(", ")}</p>}
      </details>
    </article>
  );
}

/** Keeps the screen on where the browser can: it lets go whenever the page is not seen. */
function useAwake(): boolean {
  const [isAwake, setAwake] = useState(false);
  useEffect(() => {
    let lock: WakeLockSentinel | null = null;
    let isOver = false;
    const take = async (): Promise<void> => {
      if (document.hidden || !("wakeLock" in navigator)) return;
      try {
        lock = await navigator.wakeLock.request("screen");
        if (isOver) return void lock.release();
        setAwake(true);
        lock.addEventListener("release", () => setAwake(false));
      } catch {
        setAwake(false);
      }
    };
    void take();
    const seen = (): void => void take();
    document.addEventListener("visibilitychange", seen);
    return () => {
      isOver = true;
      document.removeEventListener("visibilitychange", seen);
      void lock?.release();
    };
  }, []);
  return isAwake;
}
