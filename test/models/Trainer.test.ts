import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../../src/device/Device.ts"
import { learningRateAt } from "../../src/models/optimizer.ts"
import type * as Policy from "../../src/models/Policy.ts"
import type { PolicyBatch, PolicyTrainer } from "../../src/models/PolicyTrainer.ts"
import { initialise, type ParameterSpec, single } from "../../src/models/parameters.ts"
import { makeTrainer } from "../../src/models/Trainer.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { sft } from "../../src/objectives/sft.ts"
import { add, mul, square, sub } from "../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { reshape } from "../../src/tensor/ops/shape.ts"
import { cpu } from "./device.ts"
import { golden } from "./folders.ts"
import { tinyPolicy } from "./tinyPolicy.ts"

const examples = [
  ["The farmer", "sells well"],
  ["farmer sells well because", "In the perspective of Duty, because of Care\n"],
  ["Duty", "Care"],
  ["sells of", "<summary>Justice</summary>"],
  ["Care", "In the perspective of Justice, The farmer sells\nIn the perspective of Care, well\n"]
] as const
const sequencesOf = (policy: Policy.Policy) =>
  Effect.forEach(examples, ([prompt, answer]) => policy.sequence(prompt, answer))

const weightsOf = Effect.fnUntraced(function* (policy: Policy.Policy) {
  const fs = yield* FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  yield* policy.save(folder)
  return Buffer.from(yield* fs.readFile(`${folder}/model.safetensors`)).toString("latin1")
})

layer(cpu)("trainer", (it) => {
  it.effect("five steps of AdamW with clipping and a rising learning rate equal torch's", () =>
    Effect.gen(function* () {
      const { steps } = golden<{
        steps: ReadonlyArray<{ loss: number; norm: number; w: Array<number>; b: Array<number> }>
      }>("adamw.json")
      const zero = { kind: "constant", value: 0 } as const
      const table: ReadonlyArray<ParameterSpec> = [single("w", [6], zero), single("b", [2], zero)]
      const device = yield* Device
      const weights = yield* initialise(table, 0)
      yield* device.write(weights.get("w")!, Float32Array.from([0, 1, 2, 3, 4, 5], Math.sin))
      yield* device.write(weights.get("b")!, Float32Array.from([0, 1], Math.cos))
      const trainer = yield* makeTrainer({
        name: "quadratic",
        table,
        weights,
        // warm-up of 4: factors 1/5, 2/5, ... as the reference sets them
        optimizer: { learningRate: 0.1, warmupUpdates: 4, beta2: 0.95, weightDecay: 0.01 },
        build: (parameters) => {
          const [w, b] = [parameters.of("w"), parameters.of("b")]
          const outer = mul(reshape(b, [2, 1]), reshape(w, [1, 6]))
          return { loss: add(reduceSum(square(sub(w, 2))), reduceSum(square(outer))), logs: {} }
        },
        beforeChange: Effect.void
      })
      for (const { b, loss, norm, w } of steps) {
        yield* trainer.accumulate({})
        const update = yield* trainer.apply
        assert.closeTo(update.loss, loss, 1e-5 * loss)
        assert.closeTo(update.gradNorm, norm, 1e-5 * norm)
        for (const [name, values] of [
          ["w", w],
          ["b", b]
        ] as const) {
          const { data } = yield* device.read(weights.get(name)!)
          values.forEach((value, i) => {
            assert.closeTo(Number(data[i]), value, 2e-6)
          })
        }
      }
    })
  )

  it.effect("the same whether a batch is one micro-batch or many, and whatever the padding", () =>
    Effect.gen(function* () {
      const run = Effect.fnUntraced(function* (microBatchTokens: number) {
        const policy = yield* tinyPolicy(1)
        const sequences = yield* sequencesOf(policy)
        const trainer = yield* policy.trainer(
          grpo({ klCoefficient: 0.1 }),
          { learningRate: 1e-3 },
          { microBatchTokens }
        )
        const refLogprobs = sequences.map(({ completion }) => completion.map((_, i) => -1 - 0.1 * i))
        const update = yield* trainer.update({ sequences, inputs: { advantages: [1, -1, 0.5, 0, 2], refLogprobs } })
        const scores = yield* policy.logprobs(sequences)
        return { update, scores }
      })
      const whole = yield* run(10_000)
      const parts = yield* run(20)
      assert.strictEqual(whole.update.microBatches, 1)
      assert.isAbove(parts.update.microBatches, 2)
      assert.isBelow(parts.update.padding, whole.update.padding)
      for (const [name, value] of Object.entries(whole.update.metrics)) {
        assert.closeTo(parts.update.metrics[name]!, value, 1e-5, name)
      }
      whole.scores.forEach(({ logprobs }, i) => {
        logprobs.forEach((value, j) => {
          assert.closeTo(parts.scores[i]!.logprobs[j]!, value, 1e-4)
        })
      })
    })
  )

  it.effect(
    "gradients are zeroed as the device says, by writing or by a program; the weights are the same to the last bit",
    () =>
      Effect.gen(function* () {
        const device = yield* Device
        const run = Effect.fnUntraced(function* (zerosByProgram: boolean | undefined) {
          const ran: Array<string> = []
          const written: Array<string> = []
          const watched = Device.of({
            ...device,
            info: { ...device.info, ...(zerosByProgram === undefined ? {} : { zerosByProgram }) },
            run: (loaded, ...rest) => {
              ran.push(loaded.program.name)
              return device.run(loaded, ...rest)
            },
            write: (tensor, data) => {
              if (tensor.name.startsWith("grad:")) written.push(tensor.name)
              return device.write(tensor, data)
            }
          })
          return yield* Effect.gen(function* () {
            const policy = yield* tinyPolicy(1)
            const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2 })
            const sequences = yield* sequencesOf(policy)
            for (let i = 0; i < 3; i++) yield* trainer.update({ sequences })
            return {
              weights: yield* weightsOf(policy),
              cleared: ran.filter((name) => name.endsWith(".clear")),
              written
            }
          }).pipe(Effect.provideService(Device, watched))
        })
        const [usual, host, there] = yield* Effect.forEach([undefined, false, true], run)
        // three updates, each of which begins with zeros
        const byProgram = device.info.zerosByProgram === true
        const cleared = [usual, host, there].map((found) => found!.cleared.length)
        assert.deepStrictEqual(cleared, [byProgram ? 3 : 0, 0, 3])
        assert.strictEqual(host!.written.length % 3, 0)
        assert.isAbove(host!.written.length, 0)
        assert.deepStrictEqual([usual!.written, there!.written], [byProgram ? [] : host!.written, []])
        assert.isTrue(host!.weights === usual!.weights && there!.weights === usual!.weights)
      })
  )

  it.effect("rematerialised layers give the same update", () =>
    Effect.gen(function* () {
      const run = Effect.fnUntraced(function* (rematerialise: boolean) {
        const policy = yield* tinyPolicy(1)
        const sequences = yield* sequencesOf(policy)
        const trainer = yield* policy.trainer(sft(), { learningRate: 1e-3 }, { rematerialise })
        return (yield* trainer.update({ sequences })).metrics
      })
      const [plain, again] = [yield* run(false), yield* run(true)]
      assert.closeTo(again["loss"]!, plain["loss"]!, 1e-6)
      assert.closeTo(again["grad_norm"]!, plain["grad_norm"]!, 1e-5)
    })
  )

  it.effect("with learning rate 0 the weights stay bit by bit", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const before = yield* weightsOf(policy)
      const trainer = yield* policy.trainer(sft(), { learningRate: 0, weightDecay: 0.1 })
      const sequences = yield* sequencesOf(policy)
      for (let i = 0; i < 2; i++) yield* trainer.update({ sequences })
      assert.strictEqual(yield* weightsOf(policy), before)
      assert.strictEqual(yield* trainer.updates, 2)
    })
  )

  it.effect("k updates, a checkpoint and the rest equal all updates at once, byte by byte", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const file = `${yield* fs.makeTempDirectoryScoped()}/state.safetensors`
      const optimizer = {
        learningRate: 3e-3,
        schedule: "cosine",
        totalUpdates: 6,
        warmupUpdates: 1,
        weightDecay: 0.01
      } as const
      const train = Effect.fnUntraced(function* (
        policy: Policy.Policy,
        trainer: PolicyTrainer,
        from: number,
        to: number
      ) {
        const sequences = yield* sequencesOf(policy)
        const losses: Array<number> = []
        for (let i = from; i < to; i++) {
          losses.push(
            (yield* trainer.update({ sequences: [sequences[i % 5]!, sequences[(i + 2) % 5]!] })).metrics["loss"]!
          )
        }
        return losses
      })
      const straight = yield* tinyPolicy(1)
      const first = yield* straight.trainer(sft(), optimizer)
      const losses = yield* train(straight, first, 0, 3)
      yield* first.checkpoint(file)
      losses.push(...(yield* train(straight, first, 3, 6)))

      const resumed = yield* tinyPolicy(7)
      yield* resumed.generate([{ promptId: "p", prompt: "Duty" }], { seed: 0, purpose: "t", maxNewTokens: 4 })
      const second = yield* resumed.trainer(sft(), optimizer)
      yield* second.restore(file)
      assert.strictEqual(yield* second.updates, 3)
      assert.deepStrictEqual(yield* train(resumed, second, 3, 6), losses.slice(3))
      assert.strictEqual(yield* weightsOf(resumed), yield* weightsOf(straight))

      const other = yield* tinyPolicy(1, {}, { hiddenSize: 16, headSize: 4 })
      const error = yield* Effect.flip((yield* other.trainer(sft(), optimizer)).restore(file))
      assert.match(error.message, /state\.safetensors: tensor "model\.embed_tokens\.weight": .*shape \[21, 16\]/)
    })
  )

  it.effect("with several updates a generation the ratio is against the log-probabilities given", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const sequences = yield* sequencesOf(policy)
      const before = yield* policy.logprobs(sequences)
      const trainer = yield* policy.trainer(grpo({ old: "given", clipLow: 0.01, clipHigh: 0.01 }), {
        learningRate: 1e-2
      })
      const inputs = { advantages: [1, -1, 1, -1, 1], oldLogprobs: before.map(({ logprobs }) => logprobs) }
      const first = yield* trainer.update({ sequences, inputs })
      first.logprobs.forEach((row, i) => {
        assert.isBelow(Math.max(...row.map((value, j) => Math.abs(value - before[i]!.logprobs[j]!))), 1e-5)
      })
      const second = yield* trainer.update({ sequences, inputs })
      assert.strictEqual(first.metrics["clip_ratio/region_mean"], 0)
      assert.isAbove(second.metrics["clip_ratio/region_mean"]!, 0.1)
    })
  )

  it.effect("refuses batches that do not fit, and a loss that is not finite", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const sequences = yield* sequencesOf(policy)
      const trainer = yield* policy.trainer(grpo(), { learningRate: 1e-3 })
      const message = (batch: PolicyBatch) => Effect.map(Effect.flip(trainer.update(batch)), (error) => error.message)
      assert.match(yield* message({ sequences }), /batch input "advantages" of grpo.*: is missing/)
      assert.match(yield* message({ sequences, inputs: { advantages: [1] } }), /has 1 rows for 5 rows/)
      assert.match(yield* message({ sequences: [] }), /no completion tokens/)
      assert.match(
        yield* message({ sequences, inputs: { advantages: [1, Number.NaN, 1, 1, 1] } }),
        /the loss of policy\.grpo.* is NaN at update 0; lower the learning rate/
      )
      const long = { prompt: [1], completion: new Array<number>(80).fill(12) }
      assert.match(
        yield* message({ sequences: [long], inputs: { advantages: [1] } }),
        /81 tokens does not fit the model's 64/
      )
    })
  )
})

layer(cpu)("schedule", (it) => {
  it("rises, stays, falls", () => {
    const rate = (update: number, settings: object) => learningRateAt({ learningRate: 1, ...settings }, update)
    assert.deepStrictEqual(
      [0, 1, 2, 3, 9].map((u) => rate(u, { warmupUpdates: 3 })),
      [0.25, 0.5, 0.75, 1, 1]
    )
    const cosine = { schedule: "cosine", totalUpdates: 10, finalFactor: 0.1 }
    assert.strictEqual(rate(0, cosine), 1)
    assert.closeTo(rate(5, cosine), 0.55, 1e-12)
    assert.closeTo(rate(10, cosine), 0.1, 1e-12)
    assert.closeTo(rate(99, cosine), 0.1, 1e-12)
    const linear = { schedule: "linear", totalUpdates: 12, warmupUpdates: 2 }
    assert.deepStrictEqual(
      [1, 2, 7, 12].map((u) => rate(u, linear)),
      [2 / 3, 1, 0.5, 0]
    )
    assert.throws(() => rate(5, { schedule: "cosine" }), /needs totalUpdates/)
    assert.throws(() => rate(0, { learningRate: -1 }), /must be >= 0/)
  })
})
