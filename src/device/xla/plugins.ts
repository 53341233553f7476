/**
 * The plugins that this version knows: which wheels of the Python package index hold them, pinned by version and SHA-256,
 * and where they lie once installed. Nothing here opens one.
 */
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"

/** A file of the Python package index. */
export interface Wheel {
  /** The project's name in the index, normalised. */
  readonly project: string
  readonly version: string
  readonly file: string
  readonly sha256: string
  readonly bytes: number
}

export interface Plugin {
  /** What `exp device install` and `--device xla:NAME` call it. */
  readonly name: "cpu" | "cuda"
  readonly provider: string
  readonly version: string
  /** The library, below the folder that the wheels are unpacked into. */
  readonly library: string
  readonly wheels: ReadonlyArray<Wheel>
}

export const cpuPlugin: Plugin = {
  name: "cpu",
  provider: "xla:cpu",
  version: "2026.6.23",
  library: "fastatomstruct_xla_cpu/libpjrt_cpu.so",
  wheels: [
    {
      project: "fastatomstruct-xla-cpu",
      version: "2026.6.23",
      file: "fastatomstruct_xla_cpu-2026.6.23-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
      bytes: 63_200_622
    }
  ]
}

/** Where everything that can be fetched or computed again lies: OVERTONE_CACHE, else the user's cache folder. */
export const cacheFolder = (): string =>
  process.env["OVERTONE_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "overtone")

/** The folder of an installed plugin. Its file `installed.json` is written last. */
export const pluginFolder = ({ name, version }: Plugin): string => join(cacheFolder(), "devices", `${name}-${version}`)

/** The name of the file that says that a plugin is whole. */
export const receiptFile = "installed.json"

/** An installed plugin's library, or the sentence that says why there is none. */
export const locatePlugin = (plugin: Plugin): { readonly path: string } | { readonly missing: string } => {
  const folder = pluginFolder(plugin)
  const path = join(folder, plugin.library)
  const install = `\`exp device install ${plugin.name === "cuda" ? "nvidia" : plugin.name}\``
  if (!existsSync(join(folder, receiptFile)) || !existsSync(path)) {
    return { missing: `the XLA plugin ${plugin.provider} ${plugin.version} is not installed; run ${install}.` }
  }
  return { path }
}

/** What tells one build of an installed plugin from another: its wheels' digests. */
export const pluginIdentity = (plugin: Plugin): string => {
  const receipt = join(pluginFolder(plugin), receiptFile)
  return existsSync(receipt) ? readFileSync(receipt, "utf8") : `${plugin.name} ${plugin.version}`
}
