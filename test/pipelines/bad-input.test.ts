/**
 * Bad models, bad texts and bad numbers, met by the stages of the pipelines: each a message with place and remedy. (Bad
 * files of situations and answers: `score-published.test.ts`; the whole command: `bad-input.command.test.ts`.)
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Demonstrations, Situations } from "../../src/artifact/kinds.ts"
import type { PromptCompletion } from "../../src/data/records.ts"
import { basePolicy } from "../../src/stages/basePolicy.ts"
import { encoder } from "../../src/stages/encoder.ts"
import { estimator } from "../../src/stages/estimator.ts"
import { generate } from "../../src/stages/generate.ts"
import { sft } from "../../src/stages/sft.ts"
import { tinyPolicy, tinyWorld } from "../stages/ground.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage } from "../support/runStage.ts"
import { fileRef, writeEncoder } from "./published.ts"

const fresh = freshFolder("bad-input")
let model: string
let policy: string
let row: PromptCompletion
beforeAll(async () => {
  model = await writeEncoder(fresh())
  const world = await Effect.runPromise(tinyWorld(fresh))
  policy = await Effect.runPromise(tinyPolicy(fresh, world.world))
  const [first] = await Effect.runPromise(Demonstrations.read(world.demonstrations).rows)
  row = first!
})

const copied = (from: string): string => {
  const to = fresh()
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from, { recursive: true, encoding: "utf8" })) {
    if (statSync(join(from, name)).isDirectory()) mkdirSync(join(to, name))
    else copyFileSync(join(from, name), join(to, name))
  }
  return to
}

/** A folder whose safetensors header was rewritten; the data stay. */
const withHeader = (from: string, edit: (header: Record<string, { shape: Array<number> }>) => void): string => {
  const dir = copied(from)
  const file = join(dir, "model.safetensors")
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length))
  edit(header)
  const text = Buffer.from(JSON.stringify(header).padEnd(length))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(file, Buffer.concat([size, text, bytes.subarray(8 + length)]))
  return dir
}

const loading = (dir: string) =>
  failStage(encoder, { dir: fresh(), decoded: { path: fileRef(dir) } }).pipe(Effect.map((error) => error.message))

const data = Effect.fnUntraced(function* (rows: ReadonlyArray<PromptCompletion>) {
  const dir = fresh()
  yield* Demonstrations.write(dir).write(rows)
  return dir
})

describe("a model folder", () => {
  const name = "encoder.layer.0.output.dense.weight"

  it.effect("that is not there", () =>
    Effect.map(loading("/nowhere/model"), (message) =>
      assert.match(message, /^\/nowhere\/model: does not exist; name a model folder, or hf:/)
    )
  )

  it.effect("that lacks a tensor", () =>
    Effect.map(
      loading(
        withHeader(model, (header) => {
          header["encoder.layer.0.output.dense.wait"] = header[name]!
          delete header[name]
        })
      ),
      (message) =>
        assert.match(message, /encoder\.layer\.0\.output\.dense\.weight" with shape \[16, 16\] is missing; .*fetch/)
    )
  )

  it.effect("with a tensor of another shape", () =>
    Effect.map(
      loading(
        withHeader(model, (header) => {
          header[name]!.shape = [8, 32]
        })
      ),
      (message) => assert.match(message, /dense\.weight" has shape \[8, 32\], config\.json asks for \[16, 16\]/)
    )
  )

  it.effect("with truncated weights", () =>
    Effect.gen(function* () {
      const dir = copied(model)
      const file = join(dir, "model.safetensors")
      truncateSync(file, statSync(file).size - 100)
      assert.match(yield* loading(dir), /model\.safetensors: tensor ".*": .*the file is truncated; fetch it again/)
    })
  )

  it.effect("without weights, without configuration, without tokenizer", () =>
    Effect.gen(function* () {
      for (const gone of ["model.safetensors", "config.json", "tokenizer.json"]) {
        const dir = fresh()
        for (const file of readdirSync(model)) {
          if (file !== gone && statSync(join(model, file)).isFile()) copyFileSync(join(model, file), join(dir, file))
        }
        const message = yield* loading(dir)
        assert.include(message, dir)
        assert.include(message, gone)
      }
    })
  )

  it.effect("of another kind: an encoder is no policy", () =>
    Effect.map(
      failStage(sft, { dir: fresh(), params: { steps: 0 }, inputs: { policy: model, data: fresh() } }),
      (error) => assert.match(error.message, /config\.json: .*bert.*not supported; supported: /i)
    )
  )
})

describe("a text longer than the context", () => {
  it.effect("is refused in training, with the text and what to do", () =>
    Effect.gen(function* () {
      const long = { ...row, completion: `${row.completion} `.repeat(40) }
      const error = yield* failStage(sft, {
        dir: fresh(),
        params: { steps: 1, batchSize: 1 },
        inputs: { policy, data: yield* data([long]) }
      })
      assert.match(error.message, /^a text of \d+ tokens does not fit the model's 96: ".*"; shorten it, generate fewer/)
    })
  )

  it.effect("is refused in generation, before anything is generated", () =>
    Effect.gen(function* () {
      const dir = fresh()
      const perspectives = [{ name: "A", explanation: "b", text: "In the perspective of A, b" }] as const
      yield* Situations.write(dir).write([{ id: "x", prompt: String(row.prompt), perspectives }])
      const error = yield* failStage(generate, {
        dir: fresh(),
        params: { maxNewTokens: 96 },
        inputs: { policy, situations: dir }
      })
      assert.match(error.message, /does not fit the model's 96: .*; shorten it, generate fewer tokens or take a model/)
    })
  )
})

describe("a loss that is not a number", () => {
  it.effect("ends a policy's training with the step, the last good checkpoint and a remedy; rows before it stay", () =>
    Effect.gen(function* () {
      const { exit, said } = yield* attemptStage(sft, {
        dir: fresh(),
        params: { steps: 8, batchSize: 2, learningRate: 1e30, schedule: "constant" },
        inputs: { policy, data: yield* data([row, row, row, row]) },
        checkpointEvery: 1
      })
      const done = said.metrics.length
      assert.isAtLeast(done, 1)
      assert.isBelow(done, 8)
      assert.lengthOf(said.checkpoints, done)
      assert.match(
        String(exit),
        new RegExp(
          `sft: .* is (NaN|-?Infinity) at step ${done}; the last good checkpoint is at step ${done}. Lower the`
        )
      )
      assert.deepStrictEqual(
        said.events.map(({ name }) => name),
        ["not-finite"]
      )
    })
  )

  it.effect("ends an estimator's training likewise", () =>
    Effect.gen(function* () {
      const dir = fresh()
      const triplet = (k: number) =>
        JSON.stringify({ anchor: `lies ${k}`, positive: `break ${k}`, negative: `cat ${k}` })
      writeFileSync(join(dir, "rows.jsonl"), `${[0, 1, 2, 3].map(triplet).join("\n")}\n`)
      const error = yield* failStage(estimator, {
        dir: fresh(),
        params: { steps: 8, batchSize: 4, learningRate: 1e30, warmupSteps: 0, schedule: "constant" },
        inputs: { base: model, triplets: dir }
      })
      assert.match(
        error.message,
        /^estimator: .* is (NaN|-?Infinity) at step \d; there is no checkpoint yet. Lower the/
      )
    })
  )
})

it.effect("a policy from scratch without a world's tokenizer", () =>
  Effect.map(failStage(basePolicy, { dir: fresh(), params: { source: "scratch" } }), (error) =>
    assert.match(
      error.message,
      /needs the tokenizer of a world: set `data\.source: world`, or `policy: \{ source: folder/
    )
  )
)
