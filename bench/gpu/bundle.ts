/**
 * One folder, and a tar of it, with all that `run.sh` needs on a machine with a card and no network: Node, koffi's library, our
 * code with what it imports as a few modules, and the wheels where they are to travel too.
 *
 *   node bench/gpu/bundle.ts [--out DIR] [--wheels DIR]
 *
 * Without wheels it is under 60 MiB, for a machine that has JAX's CUDA plugin and NVIDIA's libraries (`run.sh --from
 * .../site-packages`); `--wheels DIR` takes those of `exp device install nvidia`, checked against their pins.
 */

import { spawnSync } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import { createRequire } from "node:module"
import { dirname, join, relative, resolve } from "node:path"
import { parseArgs } from "node:util"
import { build } from "esbuild"
import { sha256Of } from "../../src/device/xla/install/download.ts"
import { cudaPlugin, type Wheel } from "../../src/device/xla/plugins.ts"

const root = join(import.meta.dirname, "..", "..")

/** Modules that are commands of their own. */
export const entries = ["run", "step", "install"] as const

/** Packages that stay as they are, with their native code, and the files of them that are needed. */
const native = ["koffi", "@koromix/koffi-linux-x64"] as const

/** Whether a file of a package is needed to run it. */
export const isNeeded = (path: string): boolean =>
  /(^|\/)(package\.json|LICENSE[^/]*)$|\.(js|cjs|node)$/.test(path) && !/(^|\/)(musl_|vendor\/|doc\/|cnoke)/.test(path)

/** Wheels of a folder that are missing or other than pinned, in words. */
export const unfit = async (folder: string, wheels: ReadonlyArray<Wheel>): Promise<ReadonlyArray<string>> => {
  const problems: Array<string> = []
  for (const { file, sha256 } of wheels) {
    const path = join(folder, file)
    if (!existsSync(path)) problems.push(`${file} is missing`)
    else if ((await sha256Of(path)) !== sha256) problems.push(`${file} is not the pinned file`)
  }
  return problems
}

/** The folder of a package: its main file's, up to its manifest. */
const packageFolder = (name: string, from: string): string => {
  let folder = dirname(realpathSync(createRequire(from).resolve(name)))
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder)
  return folder
}

/** All files below a folder, relative to it, in order. */
export const filesUnder = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort()

/** Our code with what it imports, and koffi: what of a bundle is not Node nor wheels. */
export const writeCode = async (target: string): Promise<void> => {
  await build({
    entryPoints: Object.fromEntries(entries.map((name) => [name, join(import.meta.dirname, `${name}.ts`)])),
    outdir: target,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node24",
    outExtension: { ".js": ".mjs" },
    external: [...native],
    // modules that are commands as well are none here
    define: { "import.meta.main": "false" },
    // what was CommonJS asks for Node's own modules by `require`
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);'
    },
    logLevel: "error"
  })
  let from = import.meta.filename
  for (const name of native) {
    const folder = packageFolder(name, from)
    from = join(folder, "package.json")
    for (const file of filesUnder(folder).filter(isNeeded)) {
      const place = join(target, "node_modules", name, file)
      mkdirSync(dirname(place), { recursive: true })
      copyFileSync(join(folder, file), place)
    }
  }
  for (const file of ["run.sh", "peer.py"]) copyFileSync(join(import.meta.dirname, file), join(target, file))
  chmodSync(join(target, "run.sh"), 0o755)
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`

const main = async (): Promise<void> => {
  const { values } = parseArgs({ options: { out: { type: "string", default: "dist" }, wheels: { type: "string" } } })
  const target = join(resolve(values.out), "overtone-gpu")
  rmSync(target, { recursive: true, force: true })
  if (values.wheels !== undefined) {
    const problems = await unfit(values.wheels, cudaPlugin.wheels)
    if (problems.length > 0) throw new Error(`${values.wheels}: ${problems.join("; ")}`)
  }
  await writeCode(target)
  mkdirSync(join(target, "bin"))
  copyFileSync(process.execPath, join(target, "bin", "node"))
  chmodSync(join(target, "bin", "node"), 0o755)
  if (values.wheels !== undefined) {
    mkdirSync(join(target, "wheels"))
    for (const { file } of cudaPlugin.wheels) cpSync(join(values.wheels, file), join(target, "wheels", file))
  }
  const commit = spawnSync("git", ["rev-parse", "HEAD"], { cwd: root, encoding: "utf8" }).stdout?.trim()
  const files = filesUnder(target).map((file) => ({ file, bytes: statSync(join(target, file)).size }))
  const about = { commit, node: process.version, plugin: cudaPlugin.version, files }
  writeFileSync(join(target, "manifest.json"), `${JSON.stringify(about, null, 2)}\n`)
  const archive = `${target}.tar.gz`
  const { status } = spawnSync("tar", ["-czf", archive, "-C", dirname(target), "overtone-gpu"], { stdio: "inherit" })
  if (status !== 0) throw new Error(`tar ended with ${status}`)
  const unpacked = files.reduce((sum, { bytes }) => sum + bytes, 0)
  console.log(
    `${archive}: ${mebibytes(statSync(archive).size)} (${mebibytes(unpacked)} unpacked, ${files.length} files)`
  )
}

if (import.meta.main) await main()
