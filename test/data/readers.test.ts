import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DuckDBInstance } from "@duckdb/node-api"
import { Effect, Stream } from "effect"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { DataError } from "../../src/data/DataError.ts"
import { parseOpV2 } from "../../src/data/opV2.ts"
import {
  completionReader,
  nliReader,
  promptCompletionReader,
  type RecordReader,
  readRecords,
  situationReader,
  streamRecords,
  tripletReader
} from "../../src/data/readers.ts"
import type { DataSource } from "../../src/data/rows.ts"

let folder = ""
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "overtone-data-"))
})
afterAll(() => {
  rmSync(folder, { recursive: true })
})

const file = (name: string, content: string): { readonly path: string } => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return { path }
}
const read = <A>(reader: RecordReader<A>, source: DataSource) => Effect.runPromise(readRecords(reader, source))
const failure = <A>(reader: RecordReader<A>, source: DataSource): Promise<DataError> =>
  Effect.runPromise(Effect.flip(readRecords(reader, source)))

const justice = { name: "Justice", explanation: "it is fair", text: "In the perspective of Justice, it is fair" }

describe("layouts", () => {
  test("OP-V2: names and explanations, breaks inside explanations become spaces", () => {
    const answer = "In the perspective of Justice, it is fair\nIn the perspective of Duty of care, one must\nhelp."
    expect(parseOpV2(answer)).toEqual([
      justice,
      {
        name: "Duty of care",
        explanation: "one must help.",
        text: "In the perspective of Duty of care, one must help."
      }
    ])
    expect(parseOpV2("Nothing of the kind.")).toEqual([])
  })

  test("situations from OP-V2's CSV, Modular Pluralism's JSON and own JSONL are the same records", async () => {
    const opV2 = file(
      "op.csv",
      'prompt,answer,num_perspectives\n"Telling, a lie","In the perspective of Justice, it is fair",1\n'
    )
    const modular = file(
      "modular.json",
      JSON.stringify([
        { situation: "Telling, a lie", vrd: ["Justice"], explanation: ["it is fair"], input: "", output: null, id: 0 }
      ])
    )
    const own = file(
      "own.jsonl",
      `${JSON.stringify({ id: "a", prompt: "Telling, a lie", perspectives: [{ name: "Justice", explanation: "it is fair", meaning: "1+" }] })}\n\n`
    )
    expect(await read(situationReader, opV2)).toEqual([
      { id: "op/0", prompt: "Telling, a lie", perspectives: [justice] }
    ])
    expect(await read(situationReader, modular)).toEqual([
      { id: "0", prompt: "Telling, a lie", perspectives: [justice] }
    ])
    expect(await read(situationReader, own)).toEqual([
      { id: "a", prompt: "Telling, a lie", perspectives: [{ ...justice, meaning: "1+" }] }
    ])
  })

  test("completions: OP-GRPO's two texts, Modular Pluralism's output, or any one answer column; empty ones stay", async () => {
    const opGrpo = file("outputs.csv", "prompt,answer_p,answers,ok\np,core,summary,1\nq,,,0\n")
    expect(await read(completionReader, opGrpo)).toEqual([
      { id: "outputs/0", prompt: "p", text: "core", summary: "summary" },
      { id: "outputs/1", prompt: "q", text: "", summary: "" }
    ])
    const modular = file("out.json", JSON.stringify([{ situation: "p", output: "text", vrd: [], explanation: [] }]))
    expect(await read(completionReader, modular)).toEqual([{ id: "out/0", prompt: "p", text: "text" }])
    const plain = file("plain.jsonl", '{"prompt":"p","completion":"c"}')
    expect(await read(completionReader, plain)).toEqual([{ id: "plain/0", prompt: "p", text: "c" }])
    expect(await read(promptCompletionReader, plain)).toEqual([{ id: "plain/0", prompt: "p", completion: "c" }])
  })

  test("NLI pairs of SICK and of our own, triplets", async () => {
    const sick = file(
      "sick.tsv",
      "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n1\ta\tb\t3\tNEUTRAL\n"
    )
    expect(await read(nliReader, sick)).toEqual([{ premise: "a", hypothesis: "b", label: "neutral" }])
    const own = file("nli.jsonl", '{"premise":"a","hypothesis":"b","label":"entailment"}')
    expect(await read(nliReader, own)).toEqual([{ premise: "a", hypothesis: "b", label: "entailment" }])
    const triplets = file("triplets.csv", "row_id,prompt,anchor,positive,negative\n0,p,a,b,c\n")
    expect(await read(tripletReader, triplets)).toEqual([{ anchor: "a", positive: "b", negative: "c" }])
  })

  test("Parquet and queries, lists and big integers included", async () => {
    const path = join(folder, "x.parquet")
    const database = join(folder, "x.duckdb")
    const instance = await DuckDBInstance.create(database)
    const connection = await instance.connect()
    const select = "SELECT 'p' AS situation, ['Justice'] AS vrd, ['it is fair'] AS explanation, 9::BIGINT AS n"
    await connection.run(`COPY (${select}) TO '${path}' (FORMAT parquet)`)
    await connection.run(`CREATE TABLE t AS ${select}`)
    connection.closeSync()
    instance.closeSync()
    const wanted = { prompt: "p", perspectives: [justice] }
    expect(await read(situationReader, { path })).toEqual([{ id: "x/0", ...wanted }])
    expect(await read(situationReader, { query: "SELECT * FROM t", database })).toEqual([{ id: "query/0", ...wanted }])
    expect(await read(situationReader, { query: `FROM read_parquet('${path}')` })).toEqual([
      { id: "query/0", ...wanted }
    ])
  })

  test("rows are streamed: a fault behind the rows that are taken is not met", async () => {
    const source = file("late.jsonl", '{"prompt":"p","completion":"c"}\nnonsense\n')
    const taken = streamRecords(promptCompletionReader, source).pipe(Stream.take(1), Stream.runCollect)
    expect(await Effect.runPromise(taken)).toHaveLength(1)
  })
})

describe("errors name file, place, field and remedy", () => {
  const cases: ReadonlyArray<
    readonly [what: string, reader: RecordReader<unknown>, name: string, content: string, tag: string, message: RegExp]
  > = [
    ["an empty file", situationReader, "e1.jsonl", "", "EmptyDataset", /e1\.jsonl: no rows; at least one situation/],
    ["a header alone", tripletReader, "e2.csv", "anchor,positive,negative\n", "EmptyDataset", /at least one triplet/],
    [
      "a row without perspectives",
      situationReader,
      "e3.csv",
      'prompt,answer\np,"In the perspective of A, b"\nq,nothing\n',
      "BadRow",
      /e3\.csv, line 3, field "answer": has no perspective; write/
    ],
    [
      "an empty list of perspectives",
      situationReader,
      "e4.jsonl",
      '{"prompt":"p","perspectives":[]}',
      "BadRow",
      /line 1, field "perspectives": is empty; give at least one perspective or drop the row/
    ],
    [
      "a missing column",
      tripletReader,
      "e5.csv",
      "anchor,positive\na,b\n",
      "MissingColumn",
      /line 2: "negative" missing.*found "anchor", "positive"/
    ],
    ["no layout at all", situationReader, "e6.jsonl", '{"prompt":"p"}', "MissingColumn", /"perspectives" missing/],
    ["a bad JSON line", situationReader, "e7.jsonl", '\n{"prompt":\n', "BadRow", /e7\.jsonl, line 2: is not JSON/],
    ["a line that is no object", situationReader, "e8.jsonl", "[1]\n", "BadRow", /line 1: is not a JSON object/],
    [
      "a wrong type",
      promptCompletionReader,
      "e9.jsonl",
      '{"prompt":"p","completion":3}',
      "BadRow",
      /line 1, field "completion": is a number, not a text/
    ],
    [
      "an empty text",
      promptCompletionReader,
      "e10.jsonl",
      '{"prompt":" ","completion":"c"}',
      "BadRow",
      /field "prompt": is empty/
    ],
    [
      "lists of different length",
      situationReader,
      "e11.json",
      '[{"situation":"s","vrd":["a","b"],"explanation":["c"]}]',
      "BadRow",
      /row 0, field "explanation": has 1 entries where "vrd" has 2/
    ],
    [
      "an entry that is no text",
      situationReader,
      "e12.json",
      '[{"situation":"s","vrd":["a"],"explanation":[null]}]',
      "BadRow",
      /field "explanation": entry 0 is empty/
    ],
    [
      "a short CSV row",
      tripletReader,
      "e13.csv",
      "anchor,positive,negative\na,b\n",
      "BadRow",
      /line 2: has 2 cells where the header has 3/
    ],
    [
      "a truncated CSV",
      tripletReader,
      "e14.csv",
      'anchor,positive,negative\na,b,"c',
      "BadRow",
      /line 2: a quoted cell is never closed/
    ],
    [
      "a column twice",
      tripletReader,
      "e15.csv",
      "anchor,anchor,negative\na,b,c\n",
      "BadRow",
      /line 1: the header names the column "anchor" twice/
    ],
    [
      "an unknown label",
      nliReader,
      "e16.jsonl",
      '{"premise":"a","hypothesis":"b","label":"maybe"}',
      "BadRow",
      /field "label": is "maybe", not entailment/
    ],
    ["an unknown ending", situationReader, "e17.xlsx", "", "UnknownFormat", /rename it to \.jsonl/],
    ["JSON that is no list", situationReader, "e18.json", "{}", "BadRow", /is not a list of objects/]
  ]
  test.each(cases)("%s", async (_, reader, name, content, tag, message) => {
    const error = await failure(reader, file(name, content))
    expect(error.reason._tag).toBe(tag)
    expect(error.message).toMatch(message)
  })

  test("a file that is not there, a query that fails", async () => {
    expect((await failure(situationReader, { path: join(folder, "none.csv") })).message).toMatch(
      /none\.csv: no such file/
    )
    const error = await failure(situationReader, { query: "SELECT * FROM nowhere" })
    expect(error.reason._tag).toBe("SourceUnreadable")
    expect(error.message).toMatch(/nowhere/)
  })
})
