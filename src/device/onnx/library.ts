/** Where the runtime's shared library lies: inside the `onnxruntime-node` package, by platform and architecture. */

import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"

/** What the package ships, and what numbers of this module were tried on: linux-x64. The others are by its file list. */
const files: Readonly<Record<string, string>> = {
  "linux-x64": "linux/x64/libonnxruntime.so.1",
  "linux-arm64": "linux/arm64/libonnxruntime.so.1",
  "darwin-arm64": "darwin/arm64/libonnxruntime.1.dylib",
  "win32-x64": "win32/x64/onnxruntime.dll",
  "win32-arm64": "win32/arm64/onnxruntime.dll"
}

/** The library's path, or the sentence that says why there is none. */
export const locateLibrary = (
  platform: string = process.platform,
  arch: string = process.arch
): { readonly path: string } | { readonly missing: string } => {
  const file = files[`${platform}-${arch}`]
  if (file === undefined) {
    return {
      missing: `onnxruntime-node ships no library for ${platform}-${arch}; it has ${Object.keys(files).join(", ")}.`
    }
  }
  let root: string
  try {
    root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"))
  } catch {
    return { missing: "The package onnxruntime-node is not installed; run `pnpm install`." }
  }
  const path = join(root, "bin", "napi-v6", file)
  return existsSync(path)
    ? { path }
    : { missing: `${path} does not exist; reinstall onnxruntime-node (its install script is not needed).` }
}
