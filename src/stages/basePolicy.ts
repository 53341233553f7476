/**
 * The policy that everything starts from: a checkpoint (a Hugging Face folder or `hf://org/name@revision`), or a new
 * decoder of the Llama family with random weights and a world's tokenizer.
 */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Policy, WorldFolder } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { type AdapterConfig, baseFolder, modelFolder, readAdapterConfig } from "../models/adapterFolder.ts"
import * as PolicyModel from "../models/Policy.ts"
import { copyAdapter, copyModel, openModel } from "./modelFolder.ts"
import { readWorld, worldTokenizerFiles } from "./world.ts"

export const BasePolicyParams = Param.choice(
  "source",
  {
    scratch: {
      hiddenSize: Param.int(112, "width of the residual stream", { min: 2 }),
      layers: Param.int(3, "layers", { min: 1 }),
      heads: Param.int(4, "attention heads; divides hiddenSize into heads of an even size", { min: 1 }),
      keyValueHeads: Param.optional(Schema.Int, "heads of keys and values; as many as `heads` unless said otherwise"),
      intermediateSize: Param.int(304, "width of the feed-forward layers", { min: 1 }),
      maxPositions: Param.int(96, "longest sequence, prompt and answer together", { min: 2 })
    },
    folder: {
      path: Param.required(Param.ModelParam, "a Hugging Face folder, or hf://org/name@revision; an adapter's too"),
      base: Param.optional(
        Param.ModelParam,
        "of an adapter: the model below it, where its folder has none or names another"
      )
    }
  },
  "scratch",
  "where the first weights come from"
)

export class NoTokenizer extends Schema.TaggedError<NoTokenizer>()("NoTokenizer", {}) {
  override get message() {
    return "a policy from scratch needs the tokenizer of a world: set `data.source: world`, or `policy: { source: folder, path: ... }`"
  }
}

export class NotAnAdapter extends Schema.TaggedError<NotAnAdapter>()("NotAnAdapter", { folder: Schema.String }) {
  override get message() {
    return `policy: ${this.folder} is a whole model, not an adapter: leave \`base\` out, or name the adapter's folder (with adapter_config.json) as \`path\``
  }
}

export class UnpinnedBase extends Schema.TaggedError<UnpinnedBase>()("UnpinnedBase", {
  folder: Schema.String,
  name: Schema.String
}) {
  override get message() {
    return `policy: the adapter ${this.folder} is of ${this.name} and does not say at which commit: name it, \`base: hf://${this.name}@<commit>\`, or a folder`
  }
}

/** The model below an adapter: the one that is asked for, or lies in its folder, or has the name on the hub that PEFT wrote down. */
const baseOf = Effect.fnUntraced(function* (folder: string, { base }: AdapterConfig, asked: string | undefined) {
  if (asked !== undefined) return yield* openModel(asked)
  const inside = existsSync(join(folder, baseFolder, "config.json"))
  if (!inside && base !== undefined && /^[\w.-]+\/[\w.-]+$/.test(base.name) && !existsSync(base.name)) {
    // A branch may move, and nothing in the task's key would say so.
    if (!/^[0-9a-f]{40}$/.test(base.revision ?? "")) return yield* new UnpinnedBase({ folder, name: base.name })
    return yield* openModel(`hf://${base.name}@${base.revision}`)
  }
  return yield* modelFolder(folder)
})

export const basePolicy = Stage.make("policy", {
  module: import.meta.url,
  version: 1,
  params: BasePolicyParams,
  inputs: { world: optional(WorldFolder) },
  outputs: { policy: Policy },
  seeded: true,
  device: true,
  run: Effect.fn("stage.policy")(function* ({ inputs, outputs, params, seed }) {
    if (params.source === "folder") {
      const folder = yield* openModel(params.path.path)
      const adapter = yield* readAdapterConfig(folder)
      if (adapter !== undefined) {
        const base = yield* baseOf(folder, adapter, params.base?.path)
        yield* copyAdapter(folder, base, outputs.policy.dir)
        yield* PolicyModel.load(outputs.policy.dir)
        return
      }
      if (params.base !== undefined) return yield* new NotAnAdapter({ folder })
      // What is wrong with it is said here, of the folder that the user named.
      yield* PolicyModel.load(folder)
      return yield* copyModel(folder, outputs.policy.dir)
    }
    if (!inputs.world) return yield* new NoTokenizer()
    const { heads, hiddenSize, intermediateSize, keyValueHeads = heads, layers, maxPositions } = params
    const world = yield* readWorld(inputs.world.dir)
    const policy = yield* PolicyModel.create({
      seed,
      tokenizerFiles: worldTokenizerFiles(world),
      config: {
        kind: "decoder",
        vocabularySize: world.vocabulary.tokens.length,
        hiddenSize,
        intermediateSize,
        layers,
        heads,
        keyValueHeads,
        headSize: hiddenSize / heads,
        maxPositions,
        ropeTheta: 10000,
        normEpsilon: 1e-5,
        tied: true,
        qkvBias: false,
        outputBias: false,
        feedForwardBias: false,
        eosIds: [world.vocabulary.special.end]
      }
    })
    yield* policy.save(outputs.policy.dir)
  })
})
