/** Policies with an adapter: what is trained and what is not, what samples and scores, folders in PEFT's layout, what is refused. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../../src/device/Device.ts"
import { decoderParameters } from "../../src/models/decoder.ts"
import { adapterParameters, type LoraSettings } from "../../src/models/lora.ts"
import * as Policy from "../../src/models/Policy.ts"
import { open } from "../../src/models/safetensors/read.ts"
import { write } from "../../src/models/safetensors/write.ts"
import { samplingDifference } from "../../src/models/samplingDifference.ts"
import { policyLoss } from "../../src/models/score.ts"
import { backwardProgram } from "../../src/models/Trainer.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { sft } from "../../src/objectives/sft.ts"
import { reach } from "../../src/tensor/rewrite.ts"
import { cpu } from "./device.ts"
import { tinyConfig, tinyPolicy } from "./tinyPolicy.ts"

const lora: LoraSettings = { rank: 4, alpha: 8, dropout: 0, rslora: false, targets: "all-linear" }
const rows = [
  ["The farmer", "sells well"],
  ["farmer sells well because", "In the perspective of Duty, because of Care\n"],
  ["Duty", "Care"],
  ["sells of", "<summary>Justice</summary>"]
] as const

const temporary = Effect.flatMap(FileSystem, (fs) => fs.makeTempDirectoryScoped())

/** A folder with a policy of random weights. */
const base = Effect.gen(function* () {
  const folder = yield* temporary
  yield* (yield* tinyPolicy(1)).save(folder)
  return folder
})

const sequencesOf = (policy: Policy.Policy) =>
  Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))

const scoresOf = (policy: Policy.Policy, options: Policy.ScoringOptions = {}) =>
  Effect.flatMap(sequencesOf(policy), (sequences) => policy.logprobs(sequences, options)).pipe(
    Effect.map((scores) => scores.map(({ logprobs }) => logprobs))
  )

const trained = Effect.fnUntraced(function* (
  policy: Policy.Policy,
  updates: number,
  options: { dropoutSeed?: number } = {}
) {
  const sequences = yield* sequencesOf(policy)
  const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2 }, options)
  const losses: Array<number> = []
  for (let i = 0; i < updates; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
  return { trainer, losses, sequences }
})

const contents = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem
  const names = (yield* fs.readDirectory(folder, { recursive: true })).toSorted()
  const files: Record<string, string> = {}
  for (const name of names) {
    if ((yield* fs.stat(`${folder}/${name}`)).type === "File")
      files[name] = Buffer.from(yield* fs.readFile(`${folder}/${name}`)).toString("latin1")
  }
  return files
})

const reasonOf = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => String((error as Error).message))

const largest = (a: ReadonlyArray<Float32Array>, b: ReadonlyArray<Float32Array>) => samplingDifference(a, b).max

layer(cpu)("policies with an adapter", (it) => {
  it.effect(
    "a new adapter changes nothing; trained, it alone has changed, and without it the policy is what it was",
    () =>
      Effect.gen(function* () {
        const device = yield* Device
        const folder = yield* base
        const before = yield* scoresOf(yield* Policy.load(folder))
        const policy = yield* Policy.load(folder, { lora: { ...lora, seed: 3 } })
        assert.isTrue(policy.adapter!.isNew)
        assert.deepStrictEqual(yield* scoresOf(policy), before)
        const bits = yield* Effect.forEach([...policy.weights.values()], (tensor) => device.read(tensor))
        const { losses } = yield* trained(policy, 30)
        assert.isBelow(losses.at(-1)!, losses[0]! - 1)
        assert.deepStrictEqual(
          yield* Effect.forEach([...policy.weights.values()], (tensor) => device.read(tensor)),
          bits
        )
        assert.deepStrictEqual(yield* scoresOf(policy, { adapter: null }), before)
        assert.isAbove(largest(yield* scoresOf(policy), before), 0.5)
      })
  )

  it.effect("what it samples it scores alike while it is trained, with constants and with fed weights", () =>
    Effect.gen(function* () {
      const folder = yield* base
      for (const constantWeights of [2 ** 30, 0]) {
        const policy = yield* Policy.load(folder, {
          constantWeights,
          lora: { ...lora, targets: ["q_proj", "v_proj", "up_proj"], seed: 3 }
        })
        const trainer = yield* policy.trainer(grpo(), { learningRate: 1e-2 })
        const answer = Effect.gen(function* () {
          const found = yield* policy.generate(
            rows.map(([prompt], i) => ({ promptId: String(i), prompt })),
            { seed: 0, purpose: "test", maxNewTokens: 20, samples: 3 }
          )
          const sequences = found.map(({ ids, prompt }) => ({ prompt, completion: ids }))
          const scored = (yield* policy.logprobs(sequences)).map(({ logprobs }) => logprobs)
          assert.isBelow(
            largest(
              found.map(({ logprobs }) => logprobs),
              scored
            ),
            2e-5
          )
          return { sequences, scored }
        })
        const first = yield* answer
        for (let i = 0; i < 3; i++) {
          yield* trainer.update({
            sequences: first.sequences,
            inputs: { advantages: first.sequences.map((_, k) => (k % 3) - 1) }
          })
        }
        const now = (yield* policy.logprobs(first.sequences)).map(({ logprobs }) => logprobs)
        assert.isAbove(largest(now, first.scored), 0.01)
        yield* answer
      }
    })
  )

  it.effect("one copy of the model: trainer, sampler and reference together hold its weights once", () =>
    Effect.gen(function* () {
      const device = yield* Device
      const folder = yield* base
      const start = (yield* device.stats).bytes
      const policy = yield* Policy.load(folder, { constantWeights: 0, lora: { ...lora, seed: 3 } })
      const bytes = (tensors: Iterable<{ readonly byteLength: number }>) =>
        [...tensors].reduce((sum, { byteLength }) => sum + byteLength, 0)
      const model = bytes(policy.weights.values())
      const adapter = bytes(policy.adapter!.weights.values())
      yield* trained(policy, 2)
      yield* scoresOf(policy, { adapter: null })
      yield* policy.generate([{ promptId: "p", prompt: "Duty" }], { seed: 0, purpose: "test", maxNewTokens: 4 })
      const held = (yield* device.stats).bytes - start
      // The model; of the adapter its weights, gradients and two moments.
      assert.isAtLeast(held, model + 4 * adapter)
      assert.isBelow(held, model + 4 * adapter + 0.2 * model)
    })
  )

  it("the derivative has no product more than the adapters need, and no output of the model's weights", () => {
    const table = decoderParameters(tinyConfig)
    const adapters = adapterParameters(tinyConfig, lora)
    const products = (settings: LoraSettings | undefined) => {
      const build = (inputs: Parameters<typeof policyLoss>[1]) =>
        policyLoss(tinyConfig, inputs, sft(), { lora: settings })
      const made = backwardProgram(
        settings
          ? { name: "lora", table: adapters, frozen: { table, weights: new Map() }, build }
          : { name: "full", table, build }
      )
      const outputs = [...made.outputs.values()]
      const shapes = reach(outputs, () => false).flatMap(({ op, outputs: of }) =>
        op.kind === "dot" ? of.map((x) => x.shape.join()) : []
      )
      return { names: [...made.outputs.keys()].filter((name) => name.startsWith("grad:")), shapes }
    }
    const frozen = products(lora)
    assert.sameMembers(
      frozen.names,
      adapters.map(({ name }) => `grad:${name}`)
    )
    // A derivative by a weight has its shape: those of the model do not occur among the products.
    const matrices = new Set(table.filter(({ shape }) => shape.length === 2).map(({ shape }) => shape.join()))
    assert.isEmpty(frozen.shapes.filter((shape) => matrices.has(shape)))
    assert.isNotEmpty(products(undefined).shapes.filter((shape) => matrices.has(shape)))
  })

  it.effect(
    "a checkpoint holds adapters and moments, and k updates and the rest give the bytes of all, with dropout",
    () =>
      Effect.gen(function* () {
        const folder = yield* base
        const out = yield* temporary
        const dropout = { ...lora, dropout: 0.2, seed: 3 }
        const whole = yield* Policy.load(folder, { lora: dropout })
        const { losses } = yield* trained(whole, 5, { dropoutSeed: 7 })
        const part = yield* Policy.load(folder, { lora: dropout })
        const half = yield* trained(part, 3, { dropoutSeed: 7 })
        yield* half.trainer.checkpoint(`${out}/state.safetensors`)
        const names = [...(yield* open(`${out}/state.safetensors`)).tensors.keys()]
        const table = adapterParameters(whole.config, lora).map(({ name }) => name)
        assert.sameMembers(
          names,
          table.flatMap((name) => [name, `m:${name}`, `v:${name}`])
        )
        const again = yield* Policy.load(folder, { lora: { ...dropout, seed: 99 } })
        const trainer = yield* again.trainer(sft(), { learningRate: 1e-2 }, { dropoutSeed: 7, microBatchTokens: 1 })
        yield* trainer.restore(`${out}/state.safetensors`)
        const rest: Array<number> = []
        for (let i = 0; i < 2; i++) rest.push((yield* trainer.update({ sequences: half.sequences })).metrics["loss"]!)
        assert.deepStrictEqual(half.losses, losses.slice(0, 3))
        // Other micro-batches, the same masks: equal but for rounding.
        rest.forEach((loss, i) => {
          assert.closeTo(loss, losses[3 + i]!, 1e-5)
        })
        // A new adapter adds nothing, whatever it sees; from then on what is left out matters.
        const plain = yield* trained(yield* Policy.load(folder, { lora: { ...lora, seed: 3 } }), 2)
        assert.strictEqual(plain.losses[0], losses[0])
        assert.notStrictEqual(plain.losses[1], losses[1])
        assert.notStrictEqual(
          (yield* trained(yield* Policy.load(folder, { lora: dropout }), 5, { dropoutSeed: 8 })).losses.at(-1),
          losses.at(-1)
        )
      })
  )

  it.effect("saved in PEFT's layout with the model below it as links, loaded as it was, trained on or merged", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const folder = yield* base
      const policy = yield* Policy.load(folder, { lora: { ...lora, seed: 3 } })
      yield* trained(policy, 5)
      const out = yield* temporary
      yield* policy.save(out)
      const files = yield* contents(out)
      assert.deepStrictEqual(Object.keys(files), [
        "adapter_config.json",
        "adapter_model.safetensors",
        ...Object.keys(yield* contents(folder)).map((name) => `base/${name}`)
      ])
      assert.strictEqual(files["base/model.safetensors"], (yield* contents(folder))["model.safetensors"])
      const inode = (file: string) => Effect.map(fs.stat(file), ({ ino }) => ino)
      assert.deepStrictEqual(yield* inode(`${out}/base/model.safetensors`), yield* inode(`${folder}/model.safetensors`))

      const same = yield* Policy.load(out)
      assert.deepStrictEqual(yield* scoresOf(same), yield* scoresOf(policy))
      const second = yield* temporary
      yield* same.save(second)
      assert.deepStrictEqual(yield* contents(second), files)

      // From a folder of links, as the hub's cache has them, and over what was saved there before.
      const linked = yield* temporary
      for (const name of Object.keys(yield* contents(folder)))
        yield* fs.symlink(`${folder}/${name}`, `${linked}/${name}`)
      const again = yield* Policy.load(linked, { lora: { ...lora, seed: 3 } })
      for (let i = 0; i < 2; i++) yield* again.save(second)
      assert.strictEqual(
        yield* fs.realPath(`${second}/base/model.safetensors`),
        `${yield* fs.realPath(second)}/base/model.safetensors`
      )
      assert.strictEqual((yield* contents(second))["base/model.safetensors"], files["base/model.safetensors"])

      const on = yield* Policy.load(out, { lora: { ...lora, seed: 4 } })
      assert.isFalse(on.adapter!.isNew)
      assert.isFalse(on.merged)
      assert.deepStrictEqual(yield* scoresOf(on), yield* scoresOf(policy))

      const merged = yield* Policy.load(out, { lora: null })
      assert.isTrue(merged.merged)
      assert.isUndefined(merged.adapter)
      assert.isBelow(largest(yield* scoresOf(merged), yield* scoresOf(policy)), 2e-5)
      const plain = yield* temporary
      yield* merged.save(plain)
      assert.deepStrictEqual(Object.keys(yield* contents(plain)), Object.keys(yield* contents(folder)))
      assert.deepStrictEqual(yield* scoresOf(yield* Policy.load(plain)), yield* scoresOf(merged))

      const other = yield* Policy.load(out, { lora: { ...lora, targets: ["q_proj", "k_proj"], seed: 4 } })
      assert.isTrue(other.merged)
      assert.isTrue(other.adapter!.isNew)
      assert.isBelow(largest(yield* scoresOf(other), yield* scoresOf(policy)), 2e-5)
      const third = yield* temporary
      yield* other.save(third)
      assert.deepStrictEqual(yield* scoresOf(yield* Policy.load(third)), yield* scoresOf(other))

      const halves = yield* temporary
      yield* policy.save(halves, { part: "frozen" })
      yield* policy.save(halves, { part: "trained" })
      assert.deepStrictEqual(yield* contents(halves), files)
    })
  )

  it.effect("says what of an adapter's folder is wrong", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const good = yield* temporary
      yield* (yield* Policy.load(yield* base, { lora: { ...lora, seed: 3 } })).save(good)
      const config = yield* fs.readFileString(`${good}/adapter_config.json`)
      const configured = Effect.fnUntraced(function* (change: Readonly<Record<string, unknown>>) {
        yield* fs.writeFileString(`${good}/adapter_config.json`, JSON.stringify({ ...JSON.parse(config), ...change }))
        return yield* reasonOf(Policy.load(good))
      })
      assert.include(
        yield* configured({ r: 3 }),
        `lora_A.weight": has shape [4, 32], of another rank than adapter_config.json says (r: 3)`
      )
      assert.include(
        yield* configured({ target_modules: ["q_proj", "embed_tokens"] }),
        `the target "embed_tokens" is no linear layer of this model; valid: "all-linear", or names among q_proj, k_proj, v_proj, o_proj`
      )
      assert.include(
        yield* configured({ target_modules: ["q_proj"] }),
        "belongs to no layer that adapter_config.json names"
      )
      assert.include(yield* configured({ target_modules: ".*q_proj" }), `supported: "all-linear", or a list of names`)
      assert.include(
        yield* configured({ use_dora: true }),
        "use_dora is true, which is not supported; supported: false"
      )
      assert.include(yield* configured({ rank_pattern: { q_proj: 8 } }), "rank_pattern is")
      assert.include(yield* configured({ peft_type: "IA3" }), "supported: LORA")
      assert.include(yield* configured({ init_lora_weights: "pissa" }), "changes the weights of the base")
      assert.include(yield* configured({ r: "4" }), "adapter_config.json: does not decode")
      yield* fs.writeFileString(`${good}/adapter_config.json`, config)

      const file = `${good}/adapter_model.safetensors`
      const saved = yield* open(file)
      const rewritten = Effect.fnUntraced(function* (keep: (name: string) => boolean, shape?: ReadonlyArray<number>) {
        const tensors = [...saved.tensors.values()].filter(({ name }) => keep(name))
        const named = tensors.map(({ name, shape: own }) => ({ name, dtype: "F32" as const, shape: shape ?? own }))
        const aside = `${good}/aside.safetensors`
        yield* write(aside, named, (tensor) =>
          Effect.succeed(new Float32Array(tensor.shape.reduce((a, b) => a * b, 1)))
        )
        yield* fs.rename(aside, file)
        return yield* reasonOf(Policy.load(good))
      })
      const first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
      assert.include(yield* rewritten((name) => name !== first), `"${first}": is missing`)
      assert.include(
        yield* rewritten(() => true, [4, 48]),
        "where the model's layer asks for [4, 32]: it is an adapter of another model"
      )
      yield* fs.remove(file)
      assert.include(yield* reasonOf(Policy.load(good)), "adapter_model.safetensors: cannot be read")
      yield* fs.remove(`${good}/base`, { recursive: true })
      assert.include(
        yield* reasonOf(Policy.load(good)),
        "holds an adapter without the model that it belongs to (it says: base)"
      )
      assert.include(
        yield* reasonOf(
          Effect.flatMap(base, (dir) => Policy.load(dir, { lora: { ...lora, targets: ["nope"], seed: 0 } }))
        ),
        `"nope" is no linear layer`
      )
    })
  )
})
