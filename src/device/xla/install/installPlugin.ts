/**
 * Installs an XLA plugin: its wheels, side by side in one folder of the cache as in Python's site-packages, so that the
 * plugin finds its vendor's libraries where it looks for them. No Python is needed. The folder appears under its name only
 * when it is whole.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { cacheFolder, type Plugin, pluginFolder, receiptFile } from "../plugins.ts"
import { download, sha256Of } from "./download.ts"
import { InstallFailed } from "./InstallFailed.ts"
import { unzip } from "./unzip.ts"

export interface InstallOptions {
  /** A folder with the wheels, or the site-packages of an environment in which they are installed. */
  readonly from?: string | undefined
  /** Told of each step. */
  readonly say?: (line: string) => void
}

export interface Installed {
  readonly folder: string
  readonly state: "installed" | "present"
}

/** Wheels of a folder, each checked against its pin; undefined where the folder has none of them. */
const wheelsIn = async (plugin: Plugin, from: string): Promise<ReadonlyArray<string> | undefined> => {
  const files = new Set(readdirSync(from))
  const missing = plugin.wheels.filter(({ file }) => !files.has(file))
  if (missing.length === plugin.wheels.length) return undefined
  if (missing.length > 0) {
    throw new InstallFailed(`${from} lacks ${missing.map(({ file }) => file).join(", ")}`)
  }
  const paths: Array<string> = []
  for (const { file, sha256 } of plugin.wheels) {
    const path = join(from, file)
    const found = await sha256Of(path)
    if (found !== sha256) throw new InstallFailed(`${path} has the SHA-256 ${found}, and ${sha256} is pinned: not used`)
    paths.push(path)
  }
  return paths
}

/** Links to what an environment has: the first folder of the plugin's library, and what its vendor's libraries are in. */
const linkEnvironment = (plugin: Plugin, from: string, folder: string): void => {
  if (!existsSync(join(from, plugin.library))) {
    const wheels = plugin.wheels.map(({ file }) => file).join(", ")
    throw new InstallFailed(`${from} has neither the wheels (${wheels}) nor ${plugin.library}`)
  }
  for (const name of [plugin.library.split("/")[0]!, "nvidia"]) {
    if (existsSync(join(from, name))) symlinkSync(join(from, name), join(folder, name))
  }
}

/** Installs a plugin, unless it is there. Rejects with InstallFailed; what was downloaded by then is kept. */
export const installPlugin = async (
  plugin: Plugin,
  { from, say = () => {} }: InstallOptions = {}
): Promise<Installed> => {
  const folder = pluginFolder(plugin)
  if (existsSync(join(folder, receiptFile)) && existsSync(join(folder, plugin.library))) {
    return { folder, state: "present" }
  }
  const [wanted, here] = [plugin.host ?? "linux-x64", `${process.platform}-${process.arch}`]
  if (wanted !== here) {
    throw new InstallFailed(`the pinned wheels of ${plugin.provider} are for ${wanted}, not ${here}`)
  }
  const source = from === undefined ? undefined : resolve(from)
  if (source !== undefined && !existsSync(source)) throw new InstallFailed(`there is no folder ${source}`)
  const beside = `${folder}.${process.pid}.new`
  const downloads = join(cacheFolder(), "downloads")
  mkdirSync(beside, { recursive: true })
  try {
    const given = source === undefined ? undefined : await wheelsIn(plugin, source)
    const wheels: Array<{ readonly file: string; readonly sha256: string }> = []
    if (source !== undefined && given === undefined) {
      linkEnvironment(plugin, source, beside)
      say(`linked to ${source}; its versions are not checked`)
    } else {
      for (const [i, wheel] of plugin.wheels.entries()) {
        say(`${wheel.project} ${wheel.version}`)
        await unzip(given?.[i] ?? (await download(wheel, downloads, say)), beside)
        wheels.push({ file: wheel.file, sha256: wheel.sha256 })
      }
    }
    if (!existsSync(join(beside, plugin.library))) throw new InstallFailed(`the wheels hold no ${plugin.library}`)
    const receipt = {
      plugin: plugin.name,
      version: plugin.version,
      wheels,
      from: given === undefined ? source : undefined
    }
    writeFileSync(join(beside, receiptFile), `${JSON.stringify(receipt, null, 2)}\n`)
    rmSync(folder, { recursive: true, force: true })
    renameSync(beside, folder)
  } catch (error) {
    rmSync(beside, { recursive: true, force: true })
    if (error instanceof Error && "code" in error && error.code === "ENOSPC") {
      throw new InstallFailed(`no space is left at ${cacheFolder()}; set OVERTONE_CACHE to a folder on a larger disk`)
    }
    throw error
  }
  for (const { file } of plugin.wheels) rmSync(join(downloads, file), { force: true })
  return { folder, state: "installed" }
}
