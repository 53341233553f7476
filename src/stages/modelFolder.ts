/**
 * A model that parameters name, as an artifact: found (on this machine or on the hub, the commit journaled), loaded once
 * by the stage, copied. Only the files that loading reads are copied, links followed: a repository also holds other
 * formats of the same weights, pictures and downloaders' notes, which would make equal models unequal artifacts.
 */
import { existsSync } from "node:fs"
import { copyFile, mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { Effect } from "effect"
import { Task } from "../dsl/Task.ts"
import { adapterConfigFile, adapterWeightsFile, baseFolder } from "../models/adapterFolder.ts"
import * as Hub from "../models/hub.ts"
import { sentenceFiles } from "../models/SentenceEncoder.ts"
import { weightFiles } from "../models/safetensors/read.ts"
import { tokenizerFiles } from "../models/tokenizer.ts"
import { estimatorCardFile } from "./models.ts"

/** The folder of a model, downloaded first where it has to be. A hub's commit is journaled as an event `model`. */
export const openModel = Effect.fn("openModel")(function* (reference: string) {
  const { commit, folder } = yield* Hub.find(reference)
  if (commit !== null) yield* (yield* Task).event("model", { reference, commit })
  return folder
})

const described = ["config.json", "generation_config.json", ...tokenizerFiles, ...sentenceFiles, estimatorCardFile]

/** Copies an adapter and the model below it into the folder `to`, which exists. */
export const copyAdapter = Effect.fn("copyAdapter")(function* (from: string, base: string, to: string) {
  const below = join(to, baseFolder)
  yield* Effect.promise(async () => {
    await mkdir(below)
    for (const file of [adapterConfigFile, adapterWeightsFile]) {
      if (existsSync(join(from, file))) await copyFile(join(from, file), join(to, file))
    }
  })
  yield* copyModel(base, below)
})

/** Copies the model in the folder `from` into the folder `to`, which exists. */
export const copyModel = Effect.fn("copyModel")(function* (from: string, to: string) {
  const files = [...described, ...(yield* weightFiles(from))]
  yield* Effect.promise(async () => {
    for (const file of files) {
      if (!existsSync(join(from, file))) continue
      await mkdir(join(to, dirname(file)), { recursive: true })
      await copyFile(join(from, file), join(to, file))
    }
  })
})
