/** TRL's dataset types in both formats, columns called otherwise, and what is said of rows that are none of them. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DuckDBInstance } from "@duckdb/node-api"
import { Effect } from "effect"
import { afterAll, describe, expect, test } from "vitest"
import { type RecordReader, readRecords } from "../../src/data/readers.ts"
import {
  languageModelling,
  preferencePairs,
  promptCompletion,
  renamed,
  unpairedPreferences
} from "../../src/data/trl.ts"
import { root } from "../support/imports.ts"

const folder = mkdtempSync(join(tmpdir(), "overtone-trl-"))
afterAll(() => rmSync(folder, { recursive: true }))

const file = (name: string, content: string): { readonly path: string } => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return { path }
}
const jsonl = (...rows: ReadonlyArray<object>) => file("x.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"))
const read = <A>(reader: RecordReader<A>, source: { readonly path: string }) =>
  Effect.runPromise(readRecords(reader, source))
const failure = <A>(reader: RecordReader<A>, source: { readonly path: string }) =>
  Effect.runPromise(Effect.map(Effect.flip(readRecords(reader, source)), ({ message }) => message.replace(folder, "")))

const user = (content: string) => ({ role: "user", content })
const assistant = (content: string) => ({ role: "assistant", content })
const system = { role: "system", content: "Be brief." }

describe("types and formats", () => {
  test("prompt-completion: texts, and messages; one user message is its text", async () => {
    const rows = await read(
      promptCompletion,
      jsonl(
        { prompt: "Sky?", completion: "Blue." },
        { prompt: [user("Sky?")], completion: [assistant("Blue.")] },
        { prompt: [system, user("Sky?")], completion: [assistant("Blue.")] }
      )
    )
    expect(rows.map(({ completion, prompt }) => [prompt, completion])).toEqual([
      ["Sky?", "Blue."],
      ["Sky?", "Blue."],
      [[system, user("Sky?")], "Blue."]
    ])
    expect(rows[2]!.id).toBe("x/2")
    // An answer may be a list itself.
    expect((await read(promptCompletion, jsonl({ prompt: "Three?", completion: "[1, 2, 3]" })))[0]!.completion).toBe(
      "[1, 2, 3]"
    )
  })

  test("language modelling: a text answers the prompt given; a conversation its own", async () => {
    const bare = await read(languageModelling("Write."), jsonl({ text: "The sky is blue." }))
    expect(bare).toEqual([{ id: "x/0", prompt: "Write.", completion: "The sky is blue." }])
    const turns = [user("Hi"), assistant("Hello"), user("Sky?"), assistant("Blue.")]
    const [talk] = await read(languageModelling(undefined), jsonl({ messages: turns }))
    expect(talk).toEqual({ id: "x/0", prompt: turns.slice(0, 3), completion: "Blue." })
  })

  test("preference: explicit, with margin and weight; conversational", async () => {
    const rows = await read(
      preferencePairs,
      jsonl(
        { id: "a", prompt: "Sky?", chosen: "Blue.", rejected: "Green.", margin: -1.5, weight: 2 },
        { prompt: [user("Sky?")], chosen: [assistant("Blue.")], rejected: [assistant("Green.")] }
      )
    )
    expect(rows[0]).toEqual({ id: "a", prompt: "Sky?", chosen: "Blue.", rejected: "Green.", margin: -1.5, weight: 2 })
    expect(rows[1]).toEqual({ id: "x/1", prompt: "Sky?", chosen: "Blue.", rejected: "Green." })
  })

  test("preference with an implicit prompt: the common beginning, as TRL's extract_prompt cuts it", async () => {
    const rows = await read(
      preferencePairs,
      jsonl(
        { chosen: "The sky is blue.", rejected: "The sky is green." },
        { chosen: "Sky 😀", rejected: "Sky 😁" },
        {
          chosen: [system, user("Sky?"), assistant("Blue.")],
          rejected: [system, user("Sky?"), assistant("Green.")]
        }
      )
    )
    expect(rows.map(({ chosen, prompt, rejected }) => [prompt, chosen, rejected])).toEqual([
      ["The sky is", " blue.", " green."],
      ["Sky", " 😀", " 😁"],
      [[system, user("Sky?")], "Blue.", "Green."]
    ])
  })

  test("unpaired preference: labels as JSON and as CSV has them, messages in a cell", async () => {
    const csv = file(
      "u.csv",
      'prompt,completion,label\nSky?,Blue.,True\n"[{""role"":""user"",""content"":""Sky?""}]",Green.,0\n'
    )
    expect((await read(unpairedPreferences, csv)).map(({ label, prompt }) => [prompt, label])).toEqual([
      ["Sky?", true],
      ["Sky?", false]
    ])
    expect((await read(unpairedPreferences, jsonl({ prompt: "a", completion: "b", label: false })))[0]!.label).toBe(
      false
    )
  })

  test("Parquet with lists of messages", async () => {
    const path = join(folder, "p.parquet")
    const instance = await DuckDBInstance.create(":memory:")
    const connection = await instance.connect()
    await connection.run(`COPY (SELECT [{'role': 'user', 'content': 'Sky?'}] AS prompt,
      [{'role': 'assistant', 'content': 'Blue.'}] AS chosen, [{'role': 'assistant', 'content': 'Green.'}] AS rejected)
      TO '${path}' (FORMAT parquet)`)
    connection.closeSync()
    instance.closeSync()
    expect(await read(preferencePairs, { path })).toEqual([
      { id: "p/0", prompt: "Sky?", chosen: "Blue.", rejected: "Green." }
    ])
  })

  test("ShareGPT's messages, one without its list", async () => {
    const row = {
      conversations: [{ from: "human", value: "Sky?" }],
      chosen: { from: "gpt", value: "Blue." },
      rejected: { from: "gpt", value: "Green." }
    }
    expect(await read(renamed(preferencePairs, { prompt: "conversations" }), jsonl(row))).toEqual([
      { id: "x/0", prompt: "Sky?", chosen: "Blue.", rejected: "Green." }
    ])
  })

  const real = join(root, "../shared/data/preference")
  test.skipIf(!existsSync(real))("LLaMA-Factory's demonstrations: 300 pairs, 999 instructions", async () => {
    const pairs = await read(renamed(preferencePairs, { prompt: "conversations" }), {
      path: join(real, "dpo_en_demo.json")
    })
    expect(pairs).toHaveLength(300)
    expect(pairs.every(({ chosen, rejected }) => chosen !== rejected)).toBe(true)
    const columns = { prompt: "instruction", completion: "output" }
    expect(await read(renamed(promptCompletion, columns), { path: join(real, "alpaca_en_demo.json") })).toHaveLength(
      999
    )
  })

  test("columns that are called otherwise", async () => {
    const rows = await read(
      renamed(preferencePairs, { prompt: "question", chosen: "better", rejected: "worse", id: undefined }),
      jsonl({ question: "Sky?", better: "Blue.", worse: "Green.", prompt: "not this one" })
    )
    expect(rows).toEqual([{ id: "x/0", prompt: "Sky?", chosen: "Blue.", rejected: "Green." }])
  })
})

describe("what is wrong is said with file, line, field and remedy", () => {
  test.each([
    [
      preferencePairs,
      { prompt: "a", chosen: "b" },
      /x\.jsonl, line 1: "rejected" missing for a preference; found "prompt", "chosen"\. Rename/
    ],
    [
      preferencePairs,
      { prompt: "a", chosen: "", rejected: "c" },
      /x\.jsonl, line 1, field "chosen": is empty; fill it or drop the row/
    ],
    [
      preferencePairs,
      { chosen: "Yes", rejected: "No" },
      /field "chosen": and "rejected" begin with nothing in common: give the column "prompt"/
    ],
    [preferencePairs, { chosen: "The sky", rejected: "The sky" }, /field "rejected": or "chosen" is all prompt/],
    [
      preferencePairs,
      { prompt: "a", chosen: "b", rejected: "c", weight: -1 },
      /field "weight": is -1, not a number >= 0/
    ],
    [
      preferencePairs,
      { chosen: [user("a"), assistant("b")], rejected: [user("x"), assistant("c")] },
      /field "rejected": differs from "chosen" before its last message/
    ],
    [
      promptCompletion,
      { prompt: [{ role: "robot", content: "a" }], completion: "b" },
      /field "prompt\[0\]\.role": is "robot", not system, user, assistant/
    ],
    [promptCompletion, { prompt: [], completion: "b" }, /field "prompt": has no message before the answer/],
    [
      promptCompletion,
      { prompt: "a", completion: [assistant("b"), assistant("c")] },
      /field "completion": has 2 messages/
    ],
    [
      languageModelling(undefined),
      { text: "a" },
      /field "text": has no prompt, and an answer needs one: say by `prompt`/
    ],
    [
      languageModelling(undefined),
      { messages: [user("a")] },
      /field "messages": does not end with an assistant's message/
    ],
    [languageModelling(undefined), { messages: [user("a"), assistant(" ")] }, /has an empty answer/],
    [
      unpairedPreferences,
      { prompt: "a", completion: "b", label: "maybe" },
      /field "label": is "maybe", not true or false/
    ],
    [
      renamed(preferencePairs, { chosen: "better" }),
      { prompt: "a", chosen: "b", rejected: "c" },
      /"better" missing for a preference/
    ],
    [renamed(promptCompletion, { completion: "reply" }), { prompt: "a", reply: "" }, /field "reply": is empty/]
  ] as ReadonlyArray<[RecordReader<unknown>, object, RegExp]>)("%#", async (reader, row, message) => {
    expect(await failure(reader, jsonl(row))).toMatch(message)
  })
})
