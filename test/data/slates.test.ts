/** Logged slates from files of one's own and from Amazon Reviews 2023: layouts, columns, and what is said of bad rows. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DuckDBInstance } from "@duckdb/node-api"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { LoggedSlates } from "../../src/artifact/kinds.ts"
import { readAmazon, reviewPrompt } from "../../src/data/amazon.ts"
import type { LoggedSlate } from "../../src/data/records.ts"
import { defaultSlateColumns, readSlates } from "../../src/data/slates.ts"
import { amazon, slateFile } from "../../src/stages/slateFiles.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"

const fresh = freshFolder("slates")
const file = (name: string, rows: ReadonlyArray<unknown> | string) => {
  const dir = fresh()
  mkdirSync(dir, { recursive: true })
  const path = join(dir, name)
  writeFileSync(path, typeof rows === "string" ? rows : rows.map((row) => `${JSON.stringify(row)}\n`).join(""))
  return path
}
const message = (path: string) => Effect.map(Effect.flip(readSlates({ path })), (error) => error.message)

describe("slates from files", () => {
  it.effect("wide: lists beside one another, or objects; the same slates", () =>
    Effect.gen(function* () {
      const lists = file("a.jsonl", [
        { id: "s", prompt: "Why?", responses: ["a", "b"], votes: [3, 0], logprob: [-1, -2], tokens: [2, 3] }
      ])
      const objects = file("b.jsonl", [
        {
          id: "s",
          prompt: "Why?",
          responses: [
            { text: "a", votes: 3, logprob: -1, tokens: 2 },
            { text: "b", votes: 0, logprob: -2, tokens: 3 }
          ]
        }
      ])
      const expected: ReadonlyArray<LoggedSlate> = [
        {
          id: "s",
          promptId: "Why?",
          prompt: "Why?",
          responses: [
            { text: "a", votes: 3, logprob: -1, tokens: 2 },
            { text: "b", votes: 0, logprob: -2, tokens: 3 }
          ]
        }
      ]
      assert.deepStrictEqual(yield* readSlates({ path: lists }), expected)
      assert.deepStrictEqual(yield* readSlates({ path: objects }), expected)
    })
  )

  it.effect("long: rows of a prompt, or of a slate where that is said; CSV and columns of other names", () =>
    Effect.gen(function* () {
      const csv = file("c.csv", "question,answer,helpful\nWhy?,a,3\nHow?,c,1\nWhy?,b,\n")
      const columns = { ...defaultSlateColumns, prompt: "question", response: "answer", votes: "helpful" }
      const found = yield* readSlates({ path: csv }, columns)
      assert.deepStrictEqual(
        found.map(({ prompt, responses }) => [prompt, responses]),
        [
          ["Why?", [{ text: "a", votes: 3 }, { text: "b" }]],
          ["How?", [{ text: "c", votes: 1 }]]
        ]
      )
      // Judgements in the place of votes.
      const judged = file("r.jsonl", [{ prompt: "Why?", responses: [{ text: "a", relevance: 2.5 }] }])
      const [rated] = yield* readSlates({ path: judged }, { ...defaultSlateColumns, votes: "relevance" })
      assert.deepStrictEqual(rated!.responses, [{ text: "a", votes: 2.5, relevance: 2.5 }] as never)
      const slates = file("d.jsonl", [
        { slate: 1, prompt: "Why?", response: "a" },
        { slate: 2, prompt: "Why?", response: "b" }
      ])
      assert.deepStrictEqual(
        (yield* readSlates({ path: slates })).map(({ id, responses }) => [id, responses.length]),
        [
          ["1", 1],
          ["2", 1]
        ]
      )
    })
  )

  it.live("Parquet: lists of structs, lists beside one another with integers of 64 bits, and a response a row", () =>
    Effect.gen(function* () {
      const dir = fresh()
      mkdirSync(dir, { recursive: true })
      const parquet = (name: string, select: string) =>
        Effect.promise(async () => {
          const path = join(dir, name)
          const instance = await DuckDBInstance.create(":memory:")
          const connection = await instance.connect()
          await connection.run(`copy (${select}) to '${path}' (format parquet)`)
          connection.closeSync()
          instance.closeSync()
          return path
        })
      const expected = [
        { text: "a", votes: 3, logprob: -1.5, tokens: 2 },
        { text: "b", votes: 0, logprob: -2, tokens: 3 }
      ]
      const structs = `[{'text': 'a', 'votes': 3, 'logprob': -1.5::double, 'tokens': 2}, {'text': 'b', 'votes': 0, 'logprob': -2::double, 'tokens': 3}]`
      for (const select of [
        `select 'Why?' as prompt, ${structs} as responses`,
        `select 'Why?' as prompt, ['a', 'b'] as responses, [3, 0]::bigint[] as votes, [-1.5, -2]::double[] as logprob,
         [2, 3]::bigint[] as tokens`,
        `select * from (values ('Why?', 'a', 3::bigint, -1.5::double, 2), ('Why?', 'b', 0, -2, 3))
         as rows(prompt, response, votes, logprob, tokens)`
      ]) {
        const [slate] = yield* readSlates({ path: yield* parquet("a.parquet", select) })
        assert.deepStrictEqual(slate!.responses, expected as never)
      }
      // A probability of zero, which JSON cannot say.
      const never = yield* parquet(
        "b.parquet",
        `select 'Why?' as prompt, ['a'] as responses, ['-inf'::double] as logprob`
      )
      assert.match(
        yield* message(never),
        /row 0, field "logprob\[0\]": is -Infinity, not a finite number; .*leave it out/
      )
    })
  )

  it.effect("bad rows are told with file, line, field and remedy", () =>
    Effect.gen(function* () {
      const wide = (row: object) => message(file("e.jsonl", [{ prompt: "Why?", responses: ["a"] }, row]))
      assert.match(yield* wide({ prompt: "x" }), /e\.jsonl, line 2: "responses" missing for a logged slate/)
      assert.match(yield* wide({ prompt: "x", responses: [] }), /line 2, field "responses": is no list .*drop the row/)
      assert.match(yield* wide({ prompt: "x", responses: [""] }), /field "responses\[0\]": is no text/)
      assert.match(
        yield* wide({ prompt: "x", responses: ["a"], votes: [-1] }),
        /field "votes\[0\]": is -1; .*floor at 0/
      )
      assert.match(yield* wide({ prompt: "x", responses: ["a"], votes: [1, 2] }), /has 2 entries for 1 responses/)
      assert.match(yield* wide({ prompt: "x", responses: ["a"], logprob: [0.5] }), /at most 0: write the natural/)
      assert.match(yield* wide({ prompt: "x", responses: ["a"], votes: ["many"] }), /"many", not a finite number/)
      assert.match(yield* message(file("f.jsonl", [])), /no rows; at least one logged slate/)
      const mixed = file("g.jsonl", [
        { slate: "s", prompt: "Why?", response: "a" },
        { slate: "s", prompt: "How?", response: "b" }
      ])
      assert.match(yield* message(mixed), /line 2, field "prompt": belongs to slate "s", which has another prompt/)
    })
  )

  it.live("as a stage: split by prompt, with the control; too few prompts are told", () =>
    Effect.gen(function* () {
      const rows = Array.from({ length: 12 }, (_, k) => ({
        id: `s${k}`,
        promptId: `p${k % 6}`,
        prompt: `prompt ${k % 6}`,
        responses: ["a", "b"],
        votes: [k, 1]
      }))
      const path = { _tag: "File", path: file("h.jsonl", rows), sha256: "x" }
      const { out, said } = yield* runStage(slateFile, { dir: fresh(), params: { path, test: 2, development: 1 } })
      const of = (dir: string) => Effect.map(rowsOf(LoggedSlates, dir), (list) => list.map(({ promptId }) => promptId))
      const [train, development, test] = yield* Effect.all([of(out.train), of(out.development), of(out.test)])
      assert.deepStrictEqual([train.length, development.length, test.length], [6, 2, 4])
      assert.isFalse(test.some((id) => train.includes(id) || development.includes(id)))
      const control = yield* rowsOf(LoggedSlates, out.equalVotes)
      assert.strictEqual(new Set(control.flatMap(({ responses }) => responses.map(({ votes }) => votes))).size, 1)
      assert.sameMembers(Object.keys(said.metrics[0]!.values), Object.keys(slateFile.metrics))
      const error = yield* failStage(slateFile, { dir: fresh(), params: { path, test: 6 } })
      assert.match(error.message, /slates of 6 prompts; 6 are held out/)
    })
  )
})

describe("Amazon Reviews 2023", () => {
  const items = [
    { parent_asin: "A", title: "Kettle", description: ["A kettle.", "It boils  water."] },
    { parent_asin: "B", title: "Pan", description: [] },
    { parent_asin: "C", title: "Cup", description: ["A cup."] }
  ]
  const review = (parent_asin: string, text: string, helpful_vote: number) => ({
    parent_asin,
    text,
    helpful_vote,
    rating: 5
  })
  const reviews = [
    review("A", "Boils fast.", 2),
    review("A", "Broke.", 9),
    review("B", "Flat.", 1),
    review("A", "", 4),
    review("C", "Holds tea.", 0),
    review("A", "Nice and very blue.", 5)
  ]
  const options = { leastReviews: 2, mostReviews: 2, longest: 12 }

  it.effect("items' descriptions under POPE's prompt, the most helpful reviews as responses; the rest is counted", () =>
    Effect.gen(function* () {
      const found = yield* readAmazon(file("meta.jsonl", items), file("Home.jsonl", reviews), options)
      assert.deepStrictEqual(found, {
        slates: [
          {
            id: "A",
            promptId: "A",
            prompt: `${reviewPrompt} A kettle. It`,
            responses: [
              { text: "Broke.", votes: 9 },
              { text: "Nice and", votes: 5 }
            ],
            source: "Home"
          }
        ],
        undescribed: 1,
        unknown: 1,
        wordless: 1,
        few: 1
      })
    })
  )

  it.live("errors name file, line and field; as a stage it counts what was left out", () =>
    Effect.gen(function* () {
      const meta = file("meta.jsonl", items)
      const fail = (row: object) =>
        Effect.map(Effect.flip(readAmazon(meta, file("Home.jsonl", [row]), options)), (error) => error.message)
      assert.match(
        yield* fail({ ...reviews[0]!, helpful_vote: -2 }),
        /Home\.jsonl, line 1, field "helpful_vote": is -2/
      )
      assert.match(yield* fail({ parent_asin: "A", text: "x" }), /"helpful_vote" missing for a review/)
      assert.match(yield* fail(review("C", "alone", 1)), /at least one item of .*meta\.jsonl with 2 reviews/)
      const ref = (path: string) => ({ _tag: "File", path, sha256: "x" })
      const { out, said } = yield* runStage(amazon, {
        dir: fresh(),
        params: { items: ref(meta), reviews: ref(file("Home.jsonl", reviews)), leastReviews: 1, test: 1 }
      })
      assert.lengthOf(yield* rowsOf(LoggedSlates, out.train), 1)
      assert.sameMembers(Object.keys(said.metrics[0]!.values), Object.keys(amazon.metrics))
    })
  )
})
