/** A model folder becomes the same artifact wherever it lies, and whatever a downloader left beside the model. */
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { hashFolder, identify } from "../../src/artifact/folder.ts"
import { encoder } from "../../src/stages/encoder.ts"
import { fileRef, writeEncoder } from "../pipelines/published.ts"
import { freshFolder } from "../support/folders.ts"
import { runStage } from "../support/runStage.ts"

const fresh = freshFolder("model-folder")
let plain: string
let hub: string
beforeAll(async () => {
  plain = await writeEncoder(fresh())
  // As the hub's own cache lays a model out: below a hidden folder, weights as a link, times in hidden files.
  hub = join(fresh(), ".cache", "model 1")
  mkdirSync(join(hub, ".."), { recursive: true })
  renameSync(await writeEncoder(fresh()), hub)
  renameSync(join(hub, "model.safetensors"), join(hub, "..", "blob"))
  symlinkSync(join(hub, "..", "blob"), join(hub, "model.safetensors"))
  mkdirSync(join(hub, ".cache"))
  writeFileSync(join(hub, ".cache", "model.safetensors.metadata"), "1763766000")
})

it.effect("hidden files are no part of it, links are followed", () =>
  Effect.gen(function* () {
    const taken = (dir: string) =>
      Effect.gen(function* () {
        const { out } = yield* runStage(encoder, { dir: fresh(), decoded: { path: fileRef(dir) } })
        return identify("encoder", yield* Effect.promise(() => hashFolder(out.encoder)))
      })
    assert.deepStrictEqual(yield* taken(hub), yield* taken(plain))
  })
)
