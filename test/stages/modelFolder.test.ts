/** A model folder becomes the same artifact wherever it lies, and whatever lies beside the model; a hub's commit is said. */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
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
  // What repositories hold besides.
  for (const name of ["README.md", "pytorch_model.bin", "model.gguf", "vocab.txt", "adapter.safetensors"]) {
    writeFileSync(join(hub, name), name)
  }
  mkdirSync(join(hub, "onnx"))
  writeFileSync(join(hub, "onnx", "model.onnx"), "onnx")
})

const taken = (dir: string) =>
  Effect.gen(function* () {
    const { out, said } = yield* runStage(encoder, { dir: fresh(), decoded: { path: fileRef(dir) } })
    assert.deepStrictEqual(said.events, [])
    return out.encoder
  })
const identity = (dir: string) =>
  Effect.map(
    Effect.promise(() => hashFolder(dir)),
    (files) => identify("encoder", files)
  )

it.effect("only what loading reads is part of it, links are followed", () =>
  Effect.gen(function* () {
    const [one, other] = [yield* taken(hub), yield* taken(plain)]
    assert.deepStrictEqual(yield* identity(one), yield* identity(other))
    assert.isAtLeast(readdirSync(one).length, 3)
    // The copy of a copy is the copy, so nothing is missing that is read.
    assert.deepStrictEqual(yield* identity(yield* taken(one)), yield* identity(one))
  })
)

it.effect("weights in shards come with their index, and other shards do not", () =>
  Effect.gen(function* () {
    const dir = fresh()
    mkdirSync(dir, { recursive: true })
    const whole = yield* taken(plain)
    for (const name of readdirSync(whole)) {
      if (name.includes(".")) copyFileSync(join(whole, name), join(dir, name))
    }
    const file = join(dir, "model.safetensors")
    const bytes = readFileSync(file)
    const header = JSON.parse(bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0))))
    const names = Object.keys(header).filter((name) => name !== "__metadata__")
    renameSync(file, join(dir, "model-00001-of-00001.safetensors"))
    writeFileSync(join(dir, "model-00001-of-00002.safetensors"), "of another sharding")
    const weight_map = Object.fromEntries(names.map((name) => [name, "model-00001-of-00001.safetensors"]))
    writeFileSync(join(dir, "model.safetensors.index.json"), JSON.stringify({ weight_map }))
    const copy = yield* taken(dir)
    assert.deepStrictEqual(
      readdirSync(copy).filter((name) => name.includes("safetensors")),
      ["model-00001-of-00001.safetensors", "model.safetensors.index.json"]
    )
    rmSync(copy, { recursive: true })
  })
)

it.effect("of the hub: the commit that the revision stood for is journaled", () =>
  Effect.gen(function* () {
    const commit = "0123456789abcdef0123456789abcdef01234567"
    const cache = fresh()
    mkdirSync(join(cache, "org--name"), { recursive: true })
    symlinkSync(plain, join(cache, "org--name", commit))
    writeFileSync(join(cache, "org--name", "ref-main"), commit)
    process.env["OVERTONE_CACHE"] = cache
    // No hub is there: the branch stands for what it last stood for.
    process.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    for (const reference of ["hf://org/name@main", `hf://org/name@${commit}`]) {
      const { said } = yield* runStage(encoder, { dir: fresh(), decoded: { path: fileRef(reference) } })
      assert.deepStrictEqual(said.events, [{ name: "model", detail: { reference, commit } }])
    }
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        delete process.env["OVERTONE_CACHE"]
        delete process.env["HF_ENDPOINT"]
      })
    )
  )
)
