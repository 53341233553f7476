/**
 * A policy on every layout of four devices: twenty updates have the losses of one device within 1e-6, what is sampled is the
 * same, a checkpoint of any layout goes on in any other, and what moves between devices is what the layout's paper says.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { Device } from "../../../src/device/Device.ts"
import { parseMesh } from "../../../src/device/mesh.ts"
import { bucketOf } from "../../../src/device/xla/buckets.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import type { Policy } from "../../../src/models/Policy.ts"
import { dpo } from "../../../src/objectives/dpo.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { tinyPolicy } from "../../models/tinyPolicy.ts"
import { phrase } from "../agreement.ts"
import { absent, titled } from "./support.ts"

/** Six rows of 8 to 11 tokens: they fit one micro-batch, and no layout's shares come out even. */
const rows = Array.from({ length: 6 }, (_, i) => [phrase(3, i), phrase(6 + (i % 4), i + 1)] as const)

/** What one test compiled the next one loads. */
const executables = mkdtempSync(join(tmpdir(), "overtone-layouts-"))
afterAll(() => rmSync(executables, { recursive: true }))

/** Every axis of the model divides by two: 4 heads, 2 of keys and values, 24 tokens. */
const onMesh = <A, E>(
  mesh: string,
  effect: (policy: Policy) => Effect.Effect<A, E, Device | NodeServices.NodeServices | Scope.Scope>
) =>
  tinyPolicy(2, {}, { vocabularySize: 24 }).pipe(
    Effect.flatMap(effect),
    Effect.scoped,
    Effect.provide(
      Layer.mergeAll(
        XlaDevice.layer({ plugin: cpuPlugin, executables, quick: true, mesh: parseMesh(undefined, mesh) }),
        NodeServices.layer
      )
    )
  )

const sequencesOf = (policy: Policy) => Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))

const trainerOf = (policy: Policy) => policy.trainer(sft(), { learningRate: 1e-3 }, { microBatchTokens: 128 })

const twentySteps = (policy: Policy) =>
  Effect.gen(function* () {
    const sequences = yield* sequencesOf(policy)
    const trainer = yield* trainerOf(policy)
    const device = yield* Device
    const { losses, moved } = { losses: [] as number[], moved: [] as number[] }
    for (let i = 0; i < 20; i++) {
      losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
      moved.push((yield* device.stats).collectiveBytes ?? 0)
    }
    const bytes = (yield* device.stats).bytes
    const prompts = rows.slice(0, 3).map(([prompt], i) => ({ promptId: `p${i}`, prompt }))
    const sampling = { seed: 0, purpose: "test", maxNewTokens: 4, samples: 2 }
    const found = yield* policy.generate(prompts, sampling)
    const time = Math.max(...sequences.map(({ completion, prompt }) => prompt.length + completion.length)) - 1
    const tokens = sequences.reduce((n, { completion }) => n + completion.length, 0)
    return {
      losses,
      bytes,
      places: rows.length * time,
      tokens: bucketOf("tokens", tokens).high,
      moved: moved[1]! - moved[0]!,
      texts: found.map(({ ids }) => [...ids])
    }
  })

const near = (a: ReadonlyArray<number>, b: ReadonlyArray<number>, tolerance: number) => {
  assert.strictEqual(a.length, b.length)
  a.forEach((x, i) => {
    assert.isAtMost(Math.abs(x - b[i]!), tolerance * Math.abs(x), `${i}: ${x} and ${b[i]}`)
  })
}

const alone = Effect.runSync(Effect.cached(onMesh("data=1", twentySteps)))

// embedding 24 x 32; a layer 64 x 32, 32 x 32, 128 x 32, 32 x 64; five vectors of 32
const matrices = 24 * 32 + 2 * (64 + 32 + 128 + 64) * 32
const vectors = 5 * 32

describe.skipIf(absent !== undefined)(titled("a policy over four devices"), () => {
  for (const [mesh, copies] of [
    ["data=4", 4],
    ["fsdp=4", 1],
    ["model=2", 1],
    ["data=2,model=2", 2],
    ["fsdp=2,model=2", 1]
  ] as const) {
    it.effect(
      `${mesh}: twenty updates and samples as on one device; weights, gradients and moments take ${copies} x`,
      () =>
        Effect.gen(function* () {
          const one = yield* alone
          const many = yield* onMesh(mesh, twentySteps)
          near(one.losses, many.losses, 1e-6)
          assert.deepStrictEqual(many.texts, one.texts)
          assert.strictEqual(one.bytes, 4 * 4 * (matrices + vectors))
          const devices = mesh === "model=2" ? 2 : 4
          assert.strictEqual(many.bytes, 4 * 4 * (copies * matrices + devices * vectors))
          if (mesh === "data=4") {
            // the gradient, that of the look-up and of the head's targets apart; the states that predict, [rows x time], twice
            assert.isAtLeast(many.moved, 4 * (matrices + vectors))
            assert.isAtMost(many.moved, 4 * (matrices + vectors) * 1.5)
          }
          if (mesh === "model=2") {
            // Megatron: sums of [rows, time, hidden], two forward and two backward in each of two layers, one of the embedding;
            // of the head two rows and five numbers a token; of the gradient's norm one number for each matrix
            assert.strictEqual(many.moved, 4 * ((4 * 2 + 1) * many.places * 32 + many.tokens * (2 * 32 + 5) + 9))
          }
        })
    )
  }

  it.effect("a checkpoint of four devices goes on on one, and the other way round, with the same losses", () =>
    Effect.gen(function* () {
      const { losses } = yield* alone
      const folder = mkdtempSync(join(tmpdir(), "overtone-mesh-"))
      const file = (name: string) => join(folder, `${name}.safetensors`)
      const part = (from: string | undefined, steps: number, to: string) => (policy: Policy) =>
        Effect.gen(function* () {
          const sequences = yield* sequencesOf(policy)
          const trainer = yield* trainerOf(policy)
          if (from !== undefined) yield* trainer.restore(file(from))
          const found: Array<number> = []
          for (let i = 0; i < steps; i++) found.push((yield* trainer.update({ sequences })).metrics["loss"]!)
          yield* trainer.checkpoint(file(to))
          return found
        })
      const whole = (name: string) => readFileSync(file(name)).length
      near(losses.slice(0, 2), yield* onMesh("fsdp=2,model=2", part(undefined, 2, "four")), 1e-6)
      near(losses.slice(2, 4), yield* onMesh("data=1", part("four", 2, "one")), 1e-6)
      near(losses.slice(4, 6), yield* onMesh("data=2,model=2", part("one", 2, "again")), 1e-6)
      assert.deepStrictEqual([whole("one"), whole("again")], [whole("four"), whole("four")])
      // restored and written on another layout: not a byte differs
      yield* onMesh("fsdp=4", part("again", 0, "copy"))
      assert.isTrue(readFileSync(file("copy")).equals(readFileSync(file("again"))))
      rmSync(folder, { recursive: true })
    })
  )

  it.effect("pairs of rows: DPO's losses over data", () =>
    Effect.gen(function* () {
      const losses = (policy: Policy) =>
        Effect.gen(function* () {
          const sequences = yield* sequencesOf(policy)
          const reference = (yield* policy.logprobs(sequences)).map(({ logprobs }) => logprobs)
          const trainer = yield* policy.trainer(dpo(), { learningRate: 1e-3 }, { microBatchTokens: 256 })
          const found: Array<number> = []
          for (let i = 0; i < 2; i++) {
            found.push((yield* trainer.update({ sequences, inputs: { refLogprobs: reference } })).metrics["loss"]!)
          }
          return found
        })
      const [one, many] = [yield* onMesh("data=1", losses), yield* onMesh("data=4", losses)]
      near(one, many, 1e-6)
    })
  )
})
