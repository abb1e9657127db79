import { useEffect, useRef, useState } from "preact/hooks";
import { send } from "../api";
import { Busy, Failed } from "../ui/parts";
import { useLoad } from "../ui/load";

const zone = (): string => encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone);
const [LEAST, MOST] = [320, 2000];

/** The server draws it. It is fetched, since an image's address cannot carry a token, and shown as
 *  data: an image runs nothing, whatever is in it. */
export function Chart({ path, text }: { path: string; text: string }) {
  const box = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const measure = (): void => {
      const pixels = Math.round((box.current?.clientWidth ?? LEAST) / 20) * 20;
      setWidth(Math.min(Math.max(pixels, LEAST), MOST));
    };
    measure();
    let timer = 0;
    const resized = (): void => {
      clearTimeout(timer);
      timer = window.setTimeout(measure, 200);
    };
    addEventListener("resize", resized);
    return () => removeEventListener("resize", resized);
  }, []);
  const question = width ? `${path}/chart.svg?width=${width}&timezone=${zone()}` : "";
  const loaded = useLoad(question, async (signal) => {
    if (!question) return "";
    const answer = await send<string>("GET", question, { signal, accept: "image/svg+xml" });
    return "data:image/svg+xml," + encodeURIComponent(answer.body);
  });
  return (
    <figure class="chart" ref={box}>
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!loaded.data && !loaded.problem && <Busy what="the chart" />}
      {loaded.data && <img src={loaded.data} alt={text} />}
    </figure>
  );
}

export function Note({ path }: { path: string }) {
  const [isOpen, open] = useState(false);
  const question = isOpen ? `${path}/note.md?timezone=${zone()}` : "";
  const loaded = useLoad(question, async (signal) =>
    question ? (await send<string>("GET", question, { signal, accept: "text/markdown" })).body : "",
  );
  return (
    <details onToggle={(event) => open(event.currentTarget.open)}>
      <summary>Decision note</summary>
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {loaded.data && (
        <pre class="note" tabIndex={0}>
          {loaded.data}
        </pre>
      )}
    </details>
  );
}
