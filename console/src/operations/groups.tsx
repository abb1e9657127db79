// Who reads the topics, and how far behind each is.
import { all } from "../api";
import { useEvery, useLoad } from "../ui/load";
import { Busy, count, Empty, Failed, spoken, Table } from "../ui/parts";
import { Head } from "./nav";

interface Group {
  group: string;
  own: boolean;
  state: string;
  members: { id: string; client: string; host: string | null; partitions: number }[];
  lag_events: number;
  never_committed: number;
  topics: { topic: string; lag_events: number; never_committed: number }[];
  fault: string | null;
}

const PATH = "/v1/admin/groups?limit=100";
/** A broker may have very many; the command line tells of all. */
const MOST = 500;

export function Groups() {
  const loaded = useLoad(PATH, (signal) => all<Group>(PATH, MOST, signal));
  useEvery(10_000, loaded.again);
  const groups = loaded.data?.items;
  return (
    <>
      <Head at="groups" text="Consumer groups" />
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!groups && !loaded.problem && <Busy what="consumer groups" />}
      {groups?.length === 0 && <Empty>No consumer group has to do with topics of this installation.</Empty>}
      {groups && groups.length > 0 && (
        <Table label="Consumer groups">
          <thead>
            <tr>
              <th scope="col">Group</th>
              <th scope="col">State</th>
              <th scope="col" class="number">
                Members
              </th>
              <th scope="col" class="number">
                Behind
              </th>
              <th scope="col">Topics</th>
            </tr>
          </thead>
          <tbody>
            {groups.map((one) => (
              <tr key={one.group}>
                <th scope="row">
                  {one.group} {!one.own && <span class="quiet">of others</span>}
                </th>
                <td>{one.fault ? <span class="bad">{one.fault}</span> : spoken(one.state)}</td>
                <td class="number">{one.members.length}</td>
                <td class="number nowrap">{one.lag_events.toLocaleString("en-GB")}</td>
                <td>
                  {one.topics.map((topic) => (
                    <div key={topic.topic}>
                      <code>{topic.topic}</code> <Behind of={topic} />
                    </div>
                  ))}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      {loaded.data?.next_cursor && <p class="quiet">There are more: almanac groups tells of all.</p>}
    </>
  );
}

function Behind({ of }: { of: { lag_events: number; never_committed: number } }) {
  const never = of.never_committed > 0 ? `${count(of.never_committed, "partition")} never committed` : "";
  const lag = of.lag_events > 0 ? `${count(of.lag_events, "event")} behind` : "";
  if (!never && !lag) return <span class="quiet">at the end</span>;
  return <span class={lag ? "warn" : "quiet"}>{[lag, never].filter(Boolean).join(", ")}</span>;
}
