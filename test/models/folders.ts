import { existsSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")

/** Where real weights are looked for: `OVERTONE_MODELS`, else `../models` beside the project. */
export const modelsFolder = process.env["OVERTONE_MODELS"] ?? join(root, "../models")

/** The folder of a real model, or undefined where its weights are absent: tests then skip and say so. */
export const realModel = (name: string): string | undefined => {
  const folder = join(modelsFolder, name)
  return existsSync(join(folder, "model.safetensors")) ? folder : undefined
}

/** Reference numbers, as the test that reads them knows them to be. */
export const golden = <A>(name: string): A =>
  JSON.parse(readFileSync(join(root, "test/golden/models", name), "utf8")) as A
