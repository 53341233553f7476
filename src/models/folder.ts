/** Writes a model folder as transformers reads it: config, tokenizer, weights. */
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import type { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { ModelError } from "./ModelError.ts"
import { type ParameterSpec, type Weights, write } from "./parameters.ts"
import { refused } from "./refused.ts"

const dtypeNames = { F32: "float32", BF16: "bfloat16", F16: "float16" } as const

/** A `config.json` that says how the weights beside it are stored; nothing else of it changes. */
const withDtype = (config: string, dtype: keyof typeof dtypeNames): string => {
  const json: Record<string, unknown> = JSON.parse(config)
  const field = "dtype" in json ? "dtype" : "torch_dtype"
  return json[field] === dtypeNames[dtype]
    ? config
    : `${JSON.stringify({ ...json, [field]: dtypeNames[dtype] }, null, 2)}\n`
}

/** Writes text files, by name, into a folder that exists. */
export const writeTexts = Effect.fnUntraced(function* (
  folder: string,
  files: Readonly<Record<string, string>>
): Effect.fn.Return<void, ModelError, FileSystem> {
  const fs = yield* FileSystem
  for (const [name, text] of Object.entries(files)) {
    const file = `${folder}/${name}`
    if (name.includes("/")) {
      yield* fs
        .makeDirectory(file.slice(0, file.lastIndexOf("/")), { recursive: true })
        .pipe(Effect.mapError(refused(file, "written")))
    }
    yield* fs.writeFileString(file, text).pipe(Effect.mapError(refused(file, "written")))
  }
})

/**
 * Writes text files (by name; `config.json` is one of them) and `model.safetensors` into a folder that exists. Equal files
 * and weights give equal bytes.
 */
export const saveFolder = Effect.fn("saveFolder")(function* (
  folder: string,
  table: ReadonlyArray<ParameterSpec>,
  weights: Weights,
  files: Readonly<Record<string, string>>,
  dtype: keyof typeof dtypeNames
): Effect.fn.Return<void, ModelError | DeviceError, Device | FileSystem> {
  const stored = Object.entries(files).map(
    ([name, text]) => [name, name === "config.json" ? withDtype(text, dtype) : text] as const
  )
  yield* writeTexts(folder, Object.fromEntries(stored))
  yield* write(`${folder}/model.safetensors`, table, weights, dtype)
})
