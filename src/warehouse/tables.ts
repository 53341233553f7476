/**
 * The tables that journals fill (schema `raw`), column by column, and how rows get into them: through DuckDB's appender,
 * one per table and flush. Column types mirror `warehouse/migrations`; a test compares the two.
 */
import { type DuckDBAppender, type DuckDBConnection, DuckDBTimestampValue } from "@duckdb/node-api"

/** `json` columns take text that is JSON already; `time` columns microseconds since 1970, UTC. */
export type ColumnType = "text" | "bigint" | "integer" | "double" | "json" | "boolean" | "time"
export type Cell = string | number | bigint | boolean | null
export type Row = ReadonlyArray<Cell>

const t = "text"
const b = "bigint"
const i = "integer"
const d = "double"
const j = "json"

export const columns = {
  runs: { run_id: t, seq: b, experiment: t, file: t, started_at: "time", provenance: j, report: j, partial: "boolean" },
  cells: { run_id: t, seq: b, cell_id: t, arm: t, seed: b, params: j },
  cell_tasks: { run_id: t, seq: b, line_index: i, cell_id: t, task_key: t, node: t },
  tasks: { run_id: t, seq: b, task_key: t, stage: t, version: b, params: j, inputs: j, class: j, seed: b },
  attempts: {
    run_id: t,
    seq: b,
    attempt_id: t,
    task_key: t,
    content_key: t,
    code_digest: t,
    pid: b,
    started_at: "time",
    resumes: j
  },
  states: { run_id: t, seq: b, task_key: t, state: t, attempt_id: t },
  binds: { run_id: t, seq: b, task_key: t, attempt_id: t, cached: "boolean" },
  attempt_ends: { run_id: t, seq: b, attempt_id: t, state: t, signal: t, ended_at: "time", error: j },
  run_ends: { run_id: t, seq: b, state: t, ran: b, cached: b, failed: b, ended_at: "time" },
  heads: {
    attempt_id: t,
    seq: b,
    task_key: t,
    stage: t,
    content_key: t,
    code_digest: t,
    resumes_attempt: t,
    resumes_offset: b,
    resumes_step: b
  },
  metrics: { attempt_id: t, seq: b, line_index: i, step: i, name: t, value: d },
  samples: {
    attempt_id: t,
    seq: b,
    line_index: i,
    step: i,
    prompt_id: t,
    idx: i,
    prompt: t,
    completion: t,
    reward: d,
    advantage: d
  },
  reward_parts: {
    attempt_id: t,
    seq: b,
    line_index: i,
    part_index: i,
    step: i,
    prompt_id: t,
    idx: i,
    name: t,
    value: d,
    weight: d
  },
  items: { attempt_id: t, seq: b, line_index: i, prompt_id: t, split: t, name: t, value: d },
  events: { attempt_id: t, seq: b, name: t, detail: j },
  progress: { attempt_id: t, seq: b, step: i, steps: i },
  checkpoints: { attempt_id: t, seq: b, step: i, state: j, sha256: t, bytes: b },
  outputs: { attempt_id: t, seq: b, output: t, kind: t, sha256: t, bytes: b },
  ends: { attempt_id: t, seq: b, error: j }
} as const satisfies Record<string, Record<string, ColumnType>>

export type Table = keyof typeof columns
export const tables = Object.keys(columns) as ReadonlyArray<Table>

/** Rows waiting for a transaction, table by table, in the journal's order. */
export type Batch = Map<Table, Array<Row>>

export const push = (batch: Batch, table: Table, row: Row): void => {
  const rows = batch.get(table)
  if (rows === undefined) batch.set(table, [row])
  else rows.push(row)
}

/** One value by its column's type, as which it was parsed. */
const append = (appender: DuckDBAppender, type: ColumnType, value: Cell): void => {
  if (value === null) appender.appendNull()
  else if (type === "text" || type === "json") appender.appendVarchar(value as string)
  else if (type === "integer") appender.appendInteger(value as number)
  else if (type === "bigint") appender.appendBigInt(BigInt(value))
  else if (type === "double") appender.appendDouble(value as number)
  else if (type === "boolean") appender.appendBoolean(value as boolean)
  else appender.appendTimestamp(new DuckDBTimestampValue(value as bigint))
}

/** Writes a batch inside the transaction that is open on the connection. Throws what DuckDB throws. */
export const write = async (connection: DuckDBConnection, batch: Batch): Promise<number> => {
  let written = 0
  for (const [table, rows] of batch) {
    const types: ReadonlyArray<ColumnType> = Object.values(columns[table])
    const appender = await connection.createAppender(table, "raw")
    try {
      for (const row of rows) {
        for (let c = 0; c < types.length; c++) append(appender, types[c]!, row[c] ?? null)
        appender.endRow()
      }
    } catch (error) {
      // Nothing of a half-written batch may reach the table when the appender closes.
      appender.clear()
      appender.closeSync()
      throw error
    }
    appender.closeSync()
    written += rows.length
  }
  return written
}
