/**
 * A folder of "published" files and a sentence encoder small enough for tests. The encoder is random, so equal texts have
 * cosine 1 and, at a threshold just below, nothing else matches: scores can be worked out by hand.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer } from "effect"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import type { FileRef } from "../../src/dsl/param.ts"
import * as SentenceEncoder from "../../src/models/SentenceEncoder.ts"
import { scratchModel, wordsOf } from "../../src/stages/scratch.ts"

/** A file or folder as a decoded parameter. */
export const fileRef = (path: string): FileRef => ({ _tag: "File", path, sha256: "" })

export const line = (name: string, explanation: string) => `In the perspective of ${name}, ${explanation}`

/** Two situations of two perspectives. */
export const situations = [
  { prompt: "telling a lie", lines: [line("Honesty", "lies break trust"), line("Kindness", "some lies spare pain")] },
  { prompt: "keeping a cat", lines: [line("Care", "a cat needs a home"), line("Freedom", "a cat walks alone")] }
] as const

/**
 * op-grpo: both perspectives of the first situation, a line that matches nothing between them (so the second comes third),
 * and nothing of the second, marked as unparsed. modular-pluralism: one of each, after a sentence that matches nothing.
 */
export const answers = {
  opGrpo: [
    { answer: `${situations[0].lines[0]}. Nothing else matters. ${situations[0].lines[1]}.`, ok: "1" },
    { answer: "", ok: "0" }
  ],
  modularPluralism: situations.map(({ lines }) => `It depends. ${lines[1]}!`)
} as const

const cell = (text: string) => `"${text.replaceAll('"', '""')}"`
export const csv = (...rows: ReadonlyArray<ReadonlyArray<string>>) =>
  rows.map((row) => `${row.map(cell).join(",")}\n`).join("")

export const situationsCsv = csv(
  ["prompt", "answer"],
  ...situations.map(({ lines, prompt }) => [prompt, lines.join("\n")])
)
export const opGrpoCsv = csv(
  ["prompt", "answer_p", "answers", "ok"],
  ...situations.map(({ prompt }, k) => [prompt, answers.opGrpo[k]!.answer, "a summary", answers.opGrpo[k]!.ok])
)
export const modularPluralismJson = JSON.stringify(
  situations.map(({ prompt }, k) => ({ id: k, situation: prompt, output: answers.modularPluralism[k] }))
)

/** Writes the files of stratum `2p`, some of them replaced (or, with null, left out). */
export const writePublished = (dir: string, instead: Readonly<Record<string, string | null>> = {}): string => {
  mkdirSync(dir, { recursive: true })
  const files = {
    "op_v2_test_2p.csv": situationsCsv,
    "op_grpo_outputs_2p.csv": opGrpoCsv,
    "modular_pluralism_outputs_2p.json": modularPluralismJson,
    ...instead
  }
  for (const [name, text] of Object.entries(files)) if (text !== null) writeFileSync(join(dir, name), text)
  return dir
}

/** Writes a random encoder that knows every word of the files. */
export const writeEncoder = (dir: string): Promise<string> => {
  const texts = [
    ...situations.flatMap(({ lines }) => lines),
    ...answers.opGrpo.map(({ answer }) => answer),
    ...answers.modularPluralism
  ]
  const size = { hiddenSize: 16, layers: 1, heads: 2, intermediateSize: 16, maxPositions: 16 }
  const words = wordsOf(texts.map((text) => text.replaceAll(/[.!]/g, "")))
  mkdirSync(dir, { recursive: true })
  return SentenceEncoder.create({ ...scratchModel(size, words, []), wordDeviation: 0.3, seed: 1 }).pipe(
    Effect.flatMap((encoder) => encoder.save(dir)),
    Effect.scoped,
    Effect.provide(Layer.mergeAll(OnnxCpu.layer({ threads: 1 }), NodeServices.layer)),
    Effect.as(dir),
    Effect.runPromise
  )
}
