import { useEffect, useState } from "preact/hooks";
import { get, type List } from "../api";
import { href } from "../route";
import { duration, inOwnZone } from "../time";
import { Busy, count, Empty, Failed, Table, Title } from "../ui/parts";
import { useLoad } from "../ui/load";
import type { Schedule } from "./model";

export function Schedules() {
  const [cursors, setCursors] = useState<string[]>([]);
  const cursor = cursors.at(-1);
  const question = "/v1/schedules?limit=50" + (cursor ? `&cursor=${encodeURIComponent(cursor)}` : "");
  const page = useLoad(question, (signal) => get<List<Schedule>>(question, signal));
  useEffect(() => scrollTo(0, 0), [cursor]);
  const schedules = page.data?.items ?? [];
  return (
    <>
      <Title text="Weather windows">
        <a class="button main" href={href(["schedules", "new"])}>
          New schedule
        </a>
      </Title>
      {page.problem && <Failed problem={page.problem} again={page.again} />}
      {!page.data && !page.problem && <Busy what="schedules" />}
      {page.data && schedules.length === 0 && (
        <Empty>
          You have no schedules yet. A schedule lists the tasks of a job at sea with their durations and weather limits;
          Almanac then finds when they can start.
        </Empty>
      )}
      {schedules.length > 0 && (
        <Table label="Schedules">
          <thead>
            <tr>
              <th scope="col">Schedule</th>
              <th scope="col">Tasks</th>
              <th scope="col">Place</th>
              <th scope="col">Analysed</th>
              <th scope="col">Changed</th>
            </tr>
          </thead>
          <tbody>
            {schedules.map((schedule) => (
              <tr key={schedule.id}>
                <td>
                  <a href={href(["schedules", schedule.id])}>{schedule.name}</a>
                </td>
                <td>{progress(schedule)}</td>
                <td class="nowrap">
                  {schedule.location.lat}, {schedule.location.lon}
                </td>
                <td class="nowrap">{schedule.repeat_every ? `every ${duration(schedule.repeat_every)}` : "on request"}</td>
                <td class="nowrap">{inOwnZone(schedule.updated_at)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      <p class="more">
        {cursors.length > 0 && (
          <button type="button" onClick={() => setCursors(cursors.slice(0, -1))}>
            Previous page
          </button>
        )}
        {page.data?.next_cursor && (
          <button type="button" onClick={() => setCursors([...cursors, page.data!.next_cursor!])}>
            Next page
          </button>
        )}
      </p>
    </>
  );
}

function progress(schedule: Schedule): string {
  const done = schedule.tasks.filter((task) => task.state === "completed").length;
  const begun = schedule.tasks.filter((task) => task.state === "started").length;
  const said = [done && `${done} completed`, begun && `${begun} under way`].filter(Boolean).join(", ");
  return count(schedule.tasks.length, "task") + (said ? ` (${said})` : "");
}
