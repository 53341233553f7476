/** Training adapters as a knob of the stages: what is published, resumed and refused, and the reference of a KL without a second model. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import { keyParams } from "../../src/dsl/key.ts"
import { basePolicy } from "../../src/stages/basePolicy.ts"
import { generate } from "../../src/stages/generate.ts"
import { grpoRefusals } from "../../src/stages/grpo/params.ts"
import { grpo, grpoWith } from "../../src/stages/grpo.ts"
import { sft } from "../../src/stages/sft.ts"
import { fileRef } from "../pipelines/published.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, runStage } from "../support/runStage.ts"
import { brief, timeless, tinyEstimator, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("lora")
const bytes = (...path: ReadonlyArray<string>) => readFileSync(join(...path))
const files = (dir: string) =>
  readdirSync(dir, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(dir, name)).isFile())
    .toSorted()

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const policy = yield* warmPolicy(fresh, yield* tinyPolicy(fresh, made.world), made.pretraining)
    const { dir } = yield* tinyEstimator(fresh, made.world, 0)
    return {
      sft: { policy, data: made.demonstrations, development: made.demonstrations },
      grpo: { policy, prompts: made.train, estimator: dir },
      test: made.test
    }
  })
).pipe(Effect.runSync)

const lora = { rank: 4, alpha: 8 }
const params = { steps: 4, batchSize: 16, learningRate: 1e-2, schedule: "constant", lora }

describe("lora", () => {
  it.live("sft: the published policy is the one that came in, by its very bytes, and an adapter", () =>
    Effect.gen(function* () {
      const { sft: inputs } = yield* ground
      const { out, said } = yield* runStage(sft, { dir: fresh(), inputs, params, seed: 1 })
      assert.deepStrictEqual(files(out.policy), [
        "adapter_config.json",
        "adapter_model.safetensors",
        ...files(inputs.policy).map((name) => `base/${name}`)
      ])
      const [below, before] = [
        statSync(join(out.policy, "base/model.safetensors")),
        statSync(join(inputs.policy, "model.safetensors"))
      ]
      assert.strictEqual(below.ino, before.ino)
      assert.isBelow(said.metrics.at(-1)!.values["loss"]!, said.metrics[0]!.values["loss"]!)
      // Weights and two moments of adapters, in 4 bytes: nothing of the model.
      assert.isBelow(statSync(join(out.checkpoint, "trainer.safetensors")).size, 0.7 * before.size)
      assert.deepStrictEqual(said.events, [])
    })
  )

  it.live(
    "sft with dropout: 4 steps are 2 steps, an interruption and the rest; the best policy is kept; 0 steps pass through",
    () =>
      Effect.gen(function* () {
        const { sft: inputs } = yield* ground
        const all = {
          inputs,
          params: { ...params, evaluateEvery: 1, keepBest: "eval/loss", lora: { ...lora, dropout: 0.1 } },
          seed: 4
        }
        const whole = yield* runStage(sft, { dir: fresh(), ...all })
        const first = yield* attemptStage(sft, { dir: fresh(), ...all, checkpointEvery: 2, breakAt: 2 })
        assert.isTrue(Exit.hasInterrupts(first.exit))
        const resume = first.said.checkpoints.at(-1)!
        assert.deepStrictEqual(files(resume.dir), [
          "best/adapter_config.json",
          "best/adapter_model.safetensors",
          "trainer.safetensors"
        ])
        const rest = yield* runStage(sft, { dir: fresh(), ...all, resume })
        assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
        assert.deepStrictEqual(files(rest.out.policy), files(whole.out.policy))
        for (const file of files(whole.out.policy))
          assert.deepStrictEqual(bytes(rest.out.policy, file), bytes(whole.out.policy, file), file)
        const other = yield* runStage(sft, { dir: fresh(), ...all, params: { ...params, lora }, seed: 4 })
        assert.notDeepEqual(timeless(other.said), timeless(whole.said))
        const none = yield* runStage(sft, {
          dir: fresh(),
          inputs: { ...inputs, policy: whole.out.policy },
          params: { steps: 0 }
        })
        for (const file of files(whole.out.policy))
          assert.deepStrictEqual(bytes(none.out.policy, file), bytes(whole.out.policy, file), file)
      })
  )

  it.live("an adapter that comes in goes on if it has the same shape, else it is merged, which is said", () =>
    Effect.gen(function* () {
      const { sft: inputs, test } = yield* ground
      const one = (yield* runStage(sft, { dir: fresh(), inputs, params, seed: 1 })).out.policy
      const next = { ...inputs, policy: one }
      const on = yield* runStage(sft, { dir: fresh(), inputs: next, params: { ...params, order: 1 }, seed: 2 })
      assert.deepStrictEqual(on.said.events, [])
      assert.deepStrictEqual(bytes(on.out.policy, "base/model.safetensors"), bytes(inputs.policy, "model.safetensors"))
      const still = { ...params, learningRate: 0 }
      const same = yield* runStage(sft, { dir: fresh(), inputs: next, params: still, seed: 2 })
      assert.deepStrictEqual(
        bytes(same.out.policy, "adapter_model.safetensors"),
        bytes(one, "adapter_model.safetensors")
      )

      const wider = yield* runStage(sft, {
        dir: fresh(),
        inputs: next,
        params: { ...still, lora: { ...lora, rank: 8 } }
      })
      assert.deepStrictEqual(wider.said.events, [{ name: "adapter-merged", detail: { trained: "a new adapter" } }])
      const { lora: _, ...full } = still
      const plain = yield* runStage(sft, { dir: fresh(), inputs: next, params: full })
      assert.deepStrictEqual(plain.said.events, [{ name: "adapter-merged", detail: { trained: "weights" } }])
      assert.deepStrictEqual(files(plain.out.policy), files(inputs.policy))
      assert.deepStrictEqual(
        bytes(wider.out.policy, "base/model.safetensors"),
        bytes(plain.out.policy, "model.safetensors")
      )

      // Other stages read every one of them, and the merged ones say what the adapter says.
      const said = yield* Effect.forEach([one, plain.out.policy, inputs.policy], (policy) =>
        Effect.map(
          runStage(generate, {
            dir: fresh(),
            inputs: { policy, situations: test },
            params: { temperature: 0, maxNewTokens: 24 }
          }),
          ({ out }) => bytes(out.completions, "rows.jsonl").toString()
        )
      )
      assert.strictEqual(said[0], said[1])
      assert.notStrictEqual(said[0], said[2])
    })
  )

  it.live("grpo raises its reward by adapters alone, resumes, and its reference is the model without them", () =>
    Effect.gen(function* () {
      const { grpo: inputs } = yield* ground
      const all = {
        steps: 10,
        promptsPerStep: 8,
        groupSize: 8,
        updatesPerStep: 1,
        maxNewTokens: 48,
        learningRate: 1e-2,
        klCoefficient: 0.01,
        lora: { rank: 8, alpha: 16 },
        reward: {}
      }
      const { out, said } = yield* runStage(grpoWith([brief]), { dir: fresh(), inputs, params: all, seed: 1 })
      const rewards = said.metrics.map(({ values }) => values["rewards/brief/mean"]!)
      const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length
      assert.isAbove(mean(rewards.slice(-3)), mean(rewards.slice(0, 2)) + 0.5)
      assert.deepStrictEqual(bytes(out.policy, "base/model.safetensors"), bytes(inputs.policy, "model.safetensors"))
      // At first the two are the same policy; in the end they are not, and the reference is still the first one.
      const kl = said.metrics.map(({ values }) => values["kl"]!)
      assert.isBelow(Math.abs(kl[0]!), 1e-6)
      assert.isAbove(kl.at(-1)!, 0.02)
    })
  )

  it.live("grpo: 3 steps go on from 2 with a reference that moves; a mixture of adapters is refused", () =>
    Effect.gen(function* () {
      const { grpo: inputs } = yield* ground
      const all = {
        promptsPerStep: 4,
        groupSize: 4,
        maxNewTokens: 48,
        learningRate: 1e-2,
        klCoefficient: 0.1,
        reference: { syncEvery: 2 },
        lora,
        reward: { options: { prefix: "as-trained" } }
      }
      const whole = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 3 }, seed: 2 })
      const less = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 2 }, seed: 2 })
      assert.deepStrictEqual(files(less.out.checkpoint), [
        "reference/adapter_config.json",
        "reference/adapter_model.safetensors",
        "trainer.safetensors"
      ])
      assert.deepStrictEqual(
        bytes(less.out.checkpoint, "reference/adapter_model.safetensors"),
        bytes(less.out.policy, "adapter_model.safetensors")
      )
      const resume = { step: 2, dir: less.out.checkpoint, state: less.said.handedOver[0]!.state }
      const rest = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 3 }, seed: 2, resume })
      assert.deepStrictEqual([...timeless(less.said), ...timeless(rest.said)], timeless(whole.said))
      for (const file of files(whole.out.checkpoint))
        assert.deepStrictEqual(bytes(rest.out.checkpoint, file), bytes(whole.out.checkpoint, file), file)
      const mixed = yield* failStage(grpo, {
        dir: fresh(),
        inputs,
        params: { ...all, steps: 2, reference: { syncEvery: 2, mix: 0.5 } }
      })
      assert.deepInclude(mixed, { _tag: "GrpoRefused", path: "reference.mix" })

      // A policy that is trained whole has the incoming adapter in its weights, and so has a reference that follows it.
      const { lora: _, ...merged } = all
      const followed = {
        inputs: { ...inputs, policy: whole.out.policy },
        params: { ...merged, learningRate: 1e-3, updatesPerStep: 1, reference: { syncEvery: 1 } },
        seed: 4
      }
      const three = yield* runStage(grpo, { dir: fresh(), ...followed, params: { ...followed.params, steps: 3 } })
      for (const { values } of three.said.metrics) assert.isBelow(Math.abs(values["kl"]!), 1e-6)
      const two = yield* runStage(grpo, { dir: fresh(), ...followed, params: { ...followed.params, steps: 2 } })
      const third = yield* runStage(grpo, {
        dir: fresh(),
        ...followed,
        params: { ...followed.params, steps: 3 },
        resume: { step: 2, dir: two.out.checkpoint, state: two.said.handedOver[0]!.state }
      })
      assert.deepStrictEqual([...timeless(two.said), ...timeless(third.said)], timeless(three.said))

      // An adapter that came in is part of the reference: the KL begins at 0 all the same.
      const on = yield* runStage(grpo, {
        dir: fresh(),
        inputs: { ...inputs, policy: whole.out.policy },
        params: { ...all, steps: 1, updatesPerStep: 1, reference: {} },
        seed: 3
      })
      assert.isBelow(Math.abs(on.said.metrics[0]!.values["kl"]!), 1e-6)
    })
  )

  it("is no part of a task's parameters where it is left out, and refuses layers that there are not", () => {
    const decode = (given: unknown) => Schema.decodeUnknownSync(sft.params, { onExcessProperty: "error" })(given)
    const encode = (given: unknown) => keyParams(Schema.encodeUnknownSync(sft.params)(decode(given)) as never)
    assert.notProperty(encode({}), "lora")
    assert.deepInclude(encode({ lora: {} }) as object, {
      lora: { rank: 16, alpha: 32, rslora: false, targets: "all-linear", dropout: 0 }
    })
    assert.throws(() => decode({ lora: { targets: ["q_proj", "query"] } }), /"q_proj"|q_proj/)
    assert.throws(() => decode({ lora: { rank: 0 } }))
    const asked = Schema.decodeSync(grpo.params)({ lora: {}, reference: { syncEvery: 1, mix: 0.5 } })
    assert.deepStrictEqual(
      grpoRefusals(asked).map(({ path }) => path),
      ["reference.mix"]
    )
    assert.throws(() => Schema.decodeSync(grpo.params, { onExcessProperty: "error" })({ lora: { dropout: 0.1 } }))
  })

  it.live("policy: an adapter's folder with its model, or the model by the parameter `base`", () =>
    Effect.gen(function* () {
      const { sft: inputs } = yield* ground
      const one = (yield* runStage(sft, { dir: fresh(), inputs, params, seed: 1 })).out.policy
      const taken = (path: string, base?: string) => ({
        dir: fresh(),
        decoded: {
          source: "folder" as const,
          path: fileRef(path),
          ...(base === undefined ? {} : { base: fileRef(base) })
        }
      })
      const whole = yield* runStage(basePolicy, taken(one))
      assert.deepStrictEqual(files(whole.out.policy), files(one))
      const alone = fresh()
      for (const file of ["adapter_config.json", "adapter_model.safetensors"])
        writeFileSync(join(alone, file), bytes(one, file))
      const joined = yield* runStage(basePolicy, taken(alone, inputs.policy))
      for (const file of files(one)) assert.deepStrictEqual(bytes(joined.out.policy, file), bytes(one, file), file)
      assert.include(
        String((yield* failStage(basePolicy, taken(alone))) as Error),
        "without the model that it belongs to"
      )
      assert.include(
        String(yield* failStage(basePolicy, taken(inputs.policy, inputs.policy))),
        "is a whole model, not an adapter"
      )
      const config = JSON.parse(bytes(alone, "adapter_config.json").toString()) as object
      const named = { ...config, base_model_name_or_path: "org/model", revision: null }
      writeFileSync(join(alone, "adapter_config.json"), JSON.stringify(named))
      assert.include(String(yield* failStage(basePolicy, taken(alone))), "base: hf://org/model@<commit>")
    })
  )
})
