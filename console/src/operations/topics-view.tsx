import { all } from "../api";
import { href } from "../route";
import { span } from "../time";
import { useEvery, useLoad } from "../ui/load";
import { Busy, count, Failed, Table } from "../ui/parts";
import { Head } from "./nav";
import { useTopics } from "./topics";

interface Topic {
  topic: string;
  keeps: string;
  keeps_s: number | null;
  offsets: number;
  offsets_per_s: number;
  partitions: { partition: number; start: number; stable_end: number; end: number }[];
}

const PATH = "/v1/admin/topics";

function kept(topic: Topic): string {
  if (topic.keeps === "forever") return "for ever";
  return topic.keeps === "for" ? `for ${span(topic.keeps_s ?? 0)}` : "the newest of each key";
}

export function Topics() {
  const loaded = useLoad(PATH, (signal) => all<Topic>(PATH + "?limit=500", 500, signal));
  const served = useTopics();
  useEvery(5_000, loaded.again);
  const topics = loaded.data?.items;
  return (
    <>
      <Head at="topics" text="Topics" />
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!topics && !loaded.problem && <Busy what="topics" />}
      {topics && (
        <Table label="Topics">
          <thead>
            <tr>
              <th scope="col">Topic</th>
              <th scope="col">Kept</th>
              <th scope="col" class="number">
                Offsets
              </th>
              <th scope="col" class="number" title="Of the last minute, by the times that records carry">
                Offsets per second
              </th>
              <th scope="col">Ends of partitions</th>
              <th scope="col">Open transactions</th>
            </tr>
          </thead>
          <tbody>
            {topics.map((one) => {
              const open = one.partitions.filter((partition) => partition.end > partition.stable_end);
              return (
                <tr key={one.topic}>
                  <th scope="row">
                    {(served.data ?? []).includes(one.topic) ? (
                      <a href={href(["operations", "events", one.topic])}>{one.topic}</a>
                    ) : (
                      one.topic
                    )}
                  </th>
                  <td class="nowrap">{kept(one)}</td>
                  <td class="number">{one.offsets.toLocaleString("en-GB")}</td>
                  <td class="number">{one.offsets_per_s.toLocaleString("en-GB")}</td>
                  <td>
                    <code>{one.partitions.map((partition) => partition.end).join(" ")}</code>
                  </td>
                  <td>{open.length > 0 ? <span class="warn">in {count(open.length, "partition")}</span> : <span class="quiet">none</span>}</td>
                </tr>
              );
            })}
          </tbody>
        </Table>
      )}
    </>
  );
}
