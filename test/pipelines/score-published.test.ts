/** Published answers, stage by stage: read, matched, scored; and what is wrong with files that are wrong. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Completions, Situations } from "../../src/artifact/kinds.ts"
import { encoder } from "../../src/stages/encoder.ts"
import { evaluate } from "../../src/stages/evaluate.ts"
import { missingFiles, published, stratum } from "../../src/stages/published.ts"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import {
  answers,
  csv,
  fileRef,
  line,
  opGrpoCsv,
  situations,
  situationsCsv,
  writeEncoder,
  writePublished
} from "./published.ts"

const fresh = freshFolder("published")
const at = (folder: string) => ({ data: fileRef(folder), stratum: "2p" })

/** Public data beside the project; its test is skipped where they are absent. */
const real = join(root, "../shared/data/overton")

const read = Effect.fnUntraced(function* (folder: string, system: "op-grpo" | "modular-pluralism" = "op-grpo") {
  const asked = yield* runStage(stratum, { dir: fresh(), decoded: at(folder) })
  const inputs = { situations: asked.out.situations }
  const given = yield* runStage(published, { dir: fresh(), decoded: { ...at(folder), system }, inputs })
  return { ...inputs, completions: given.out.completions, said: given.said }
})

const refused = Effect.fnUntraced(function* (instead: Readonly<Record<string, string>>) {
  const folder = writePublished(fresh(), instead)
  const { out } = yield* runStage(stratum, { dir: fresh(), decoded: at(folder) })
  const error = yield* failStage(published, {
    dir: fresh(),
    decoded: { ...at(folder), system: "op-grpo" },
    inputs: { situations: out.situations }
  })
  return error.message
})

describe("published answers", () => {
  it.effect("are matched to situations by their prompt, whatever their order; unparsed ones stay", () =>
    Effect.gen(function* () {
      const [header, first, second] = opGrpoCsv.split(/\n(?=")/)
      const folder = writePublished(fresh(), { "op_grpo_outputs_2p.csv": `${header}\n${second}${first}\n` })
      const { completions, said, situations: asked } = yield* read(folder)
      assert.deepStrictEqual(
        (yield* rowsOf(Situations, asked)).map(({ id, prompt }) => [id, prompt]),
        situations.map(({ prompt }, k) => [`op_v2_test_2p/${k}`, prompt])
      )
      assert.deepStrictEqual(yield* rowsOf(Completions, completions), [
        { id: "op_v2_test_2p/1", prompt: situations[1].prompt, text: "" },
        { id: "op_v2_test_2p/0", prompt: situations[0].prompt, text: answers.opGrpo[0].answer }
      ])
      assert.deepStrictEqual(said.metrics, [
        { step: 0, values: { "published/answers": 2, "published/unparsed": 1, "published/empty": 1 } }
      ])
      assert.deepStrictEqual(
        said.samples.map(({ completion, idx, promptId, reward }) => [promptId, idx, completion, reward]),
        [
          ["op_v2_test_2p/1", 0, "", null],
          ["op_v2_test_2p/0", 0, answers.opGrpo[0].answer, null]
        ]
      )
    })
  )

  /**
   * op-grpo, first situation: candidates [ref 1, nothing, ref 2]: coverage 2/2, at_m (first two) 1/2, precision 2/3,
   * complete, 3 lines. Second: no candidate, all 0. modular-pluralism: candidates [nothing, ref 2]: 1/2, 1/2, 1/2, 2 lines.
   */
  it.effect("are scored as the authors score them", () =>
    Effect.gen(function* () {
      const folder = writePublished(fresh())
      const model = yield* Effect.promise(() => writeEncoder(fresh()))
      const { out } = yield* runStage(encoder, {
        dir: fresh(),
        decoded: { path: fileRef(model) }
      })
      const scored = Effect.fnUntraced(function* (system: "op-grpo" | "modular-pluralism") {
        const { completions, situations: asked } = yield* read(folder, system)
        const { said } = yield* runStage(evaluate, {
          dir: fresh(),
          params: { candidates: "sentences", prefix: "keep", threshold: 0.9999 },
          inputs: { completions, situations: asked, estimator: out.encoder }
        })
        return (name: string) => said.items.filter((item) => item.name === name).map(({ value }) => value)
      })
      const ours = yield* scored("op-grpo")
      assert.deepStrictEqual(ours("eval/coverage/estimator"), [1, 0])
      assert.deepStrictEqual(ours("eval/coverage/at_m"), [0.5, 0])
      assert.deepStrictEqual(ours("eval/precision/estimator"), [2 / 3, 0])
      assert.deepStrictEqual(ours("eval/complete/estimator"), [1, 0])
      assert.deepStrictEqual(ours("eval/lines/mean"), [3, 0])
      assert.deepStrictEqual(ours("eval/coverage/shuffled"), [0, 0])
      const theirs = yield* scored("modular-pluralism")
      for (const name of ["eval/coverage/estimator", "eval/coverage/at_m", "eval/precision/estimator"]) {
        assert.deepStrictEqual(theirs(name), [0.5, 0.5], name)
      }
      assert.deepStrictEqual(theirs("eval/lines/mean"), [2, 2])
    })
  )

  it.effect("that answer no situation, or leave one out, are refused with the prompt", () =>
    Effect.gen(function* () {
      const stranger = csv(["prompt", "answer_p"], ["breeding dragons", "x"])
      assert.match(
        yield* refused({ "op_grpo_outputs_2p.csv": stranger }),
        /op_grpo_outputs_2p\.csv: line 2 answers "breeding dragons", which is no situation of op_v2_test_2p\.csv/
      )
      const half = csv(["prompt", "answer_p"], [situations[1].prompt, "x"])
      assert.match(
        yield* refused({ "op_grpo_outputs_2p.csv": half }),
        /1 of 2 situations have no answer, the first "telling a lie"; add a row/
      )
      const twice = situationsCsv + csv([situations[0].prompt, line("A", "b")])
      assert.match(
        yield* refused({ "op_v2_test_2p.csv": twice }),
        /op_v2_test_2p\.csv: .*"telling a lie" is there twice/
      )
    })
  )

  it.effect("without a column of answers are refused with the columns that are there", () =>
    Effect.map(refused({ "op_grpo_outputs_2p.csv": csv(["prompt", "said"], ["telling a lie", "x"]) }), (message) =>
      assert.match(message, /op_grpo_outputs_2p\.csv, line 2: .*missing for a completion; found "prompt", "said"/)
    )
  )

  it.effect("of situations without a perspective, or of none, are refused by their file and line", () =>
    Effect.gen(function* () {
      const wrong = Effect.fnUntraced(function* (text: string) {
        const folder = writePublished(fresh(), { "op_v2_test_2p.csv": text })
        return (yield* failStage(stratum, { dir: fresh(), decoded: at(folder) })).message
      })
      const bare = csv(["prompt", "answer"], ["telling a lie", "It is bad."])
      assert.match(yield* wrong(bare), /op_v2_test_2p\.csv, line 2, field "answer": has no perspective; write "In the/)
      assert.match(yield* wrong("prompt,answer\n"), /op_v2_test_2p\.csv: no rows; at least one situation is needed/)
      assert.match(yield* wrong(""), /no rows/)
    })
  )
})

it("files that a folder lacks are known before anything runs, with the strata that are there", () => {
  const folder = writePublished(fresh(), { "op_v2_test_3p.csv": situationsCsv })
  assert.deepStrictEqual(missingFiles(folder, "2p", "op-grpo"), { missing: [], strata: ["2p"] })
  assert.deepStrictEqual(missingFiles(folder, "3p", "modular-pluralism"), {
    missing: ["modular_pluralism_outputs_3p.json"],
    strata: ["2p"]
  })
  assert.deepStrictEqual(missingFiles(join(folder, "nowhere"), "2p", "op-grpo").strata, [])
})

describe.skipIf(!existsSync(real))(existsSync(real) ? "the 5p stratum" : `the 5p stratum: skipped, no ${real}`, () => {
  it.effect.each(["op-grpo", "modular-pluralism"] as const)("%s answered all 300 situations", (system) =>
    Effect.gen(function* () {
      const source = { data: fileRef(real), stratum: "5p" }
      const asked = yield* runStage(stratum, { dir: fresh(), decoded: source })
      const inputs = { situations: asked.out.situations }
      const { out, said } = yield* runStage(published, { dir: fresh(), decoded: { ...source, system }, inputs })
      const ids = (yield* rowsOf(Situations, asked.out.situations)).map(({ id }) => id)
      assert.deepStrictEqual(
        (yield* rowsOf(Completions, out.completions)).map(({ id }) => id),
        ids
      )
      assert.deepStrictEqual(said.metrics, [
        { step: 0, values: { "published/answers": 300, "published/unparsed": 0, "published/empty": 0 } }
      ])
    })
  )
})
