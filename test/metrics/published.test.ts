/**
 * The authors' evaluation logs, in `../shared/data/overton`; skipped, saying so, where that folder is absent. The logs
 * hold the texts as split, the matched pairs and, at their end, the two accuracies.
 */
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { completionReader, readRecords, situationReader } from "../../src/data/readers.ts"
import { accuracies, type MatchedCount } from "../../src/metrics/coverage.ts"
import { splitCandidates, splitReferences } from "../../src/metrics/sentences.ts"

const data = fileURLToPath(new URL("../../../shared/data/overton/", import.meta.url))
const present = existsSync(data)

/** One row of a log: references, candidates and matched count as printed. */
const rows = (log: string) =>
  log
    .split(/^=== Row \d+ ===$/m)
    .slice(1)
    .map((block) => {
      const texts = (mark: "R" | "C") =>
        [...block.matchAll(new RegExp(`^  \\[${mark}\\d+\\] (.*)$`, "gm"))].map(([, text]) => text!)
      const [, matched, references] = /^Matched (\d+)\/(\d+)/m.exec(block)!
      const count: MatchedCount = { matched: Number(matched), references: Number(references) }
      return { prompt: /^\[PROMPT\] (.*)$/m.exec(block)![1]!, references: texts("R"), candidates: texts("C"), count }
    })
const read = (name: string) => rows(readFileSync(`${data}${name}`, "utf8"))

describe.skipIf(!present)(present ? "the authors' logs" : `the authors' logs: skipped, no ${data}`, () => {
  test.each([
    ["eval_5p_0822_101948.log", 0.142, 0],
    ["eval_5p_0815_140437.log", 0.77133, 0.32667]
  ])("%s: accuracies from its 300 matched counts", (name, relative, absolute) => {
    const counts = read(name).map(({ count }) => count)
    expect(counts).toHaveLength(300)
    const found = accuracies(counts)
    expect(found.relative).toBeCloseTo(relative, 5)
    expect(found.absolute).toBeCloseTo(absolute, 5)
  })

  test("row 0 of the Modular Pluralism log: 5 references and 19 candidates, text for text", async () => {
    const [first] = read("eval_5p_0822_101948.log")
    const [answer] = await Effect.runPromise(
      readRecords(completionReader, { path: `${data}modular_pluralism_outputs_5p.json` })
    )
    const [situation] = await Effect.runPromise(readRecords(situationReader, { path: `${data}op_v2_test_5p.csv` }))
    const references = splitReferences(situation.perspectives.map(({ text }) => text).join("\n"))
    expect(references).toHaveLength(5)
    expect(references).toEqual(first!.references)
    const candidates = splitCandidates(answer.text)
    expect(candidates).toHaveLength(19)
    expect(candidates).toEqual(first!.candidates)
  })

  test("every row of that log splits as logged", async () => {
    const answers = await Effect.runPromise(
      readRecords(completionReader, { path: `${data}modular_pluralism_outputs_5p.json` })
    )
    const byPrompt = new Map(answers.map((answer) => [answer.prompt, answer.text]))
    const firstLines = (texts: ReadonlyArray<string>) => texts.map((text) => text.split("\n")[0]!.trim())
    const wrong = read("eval_5p_0822_101948.log").filter(
      ({ prompt, candidates }) =>
        JSON.stringify(firstLines(splitCandidates(byPrompt.get(prompt) ?? ""))) !==
        JSON.stringify(firstLines(candidates))
    )
    expect(wrong.map(({ prompt }) => prompt)).toEqual([])
  })
})
