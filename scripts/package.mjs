/**
 * The package as it is packed (`npm pack`): compiled, since Node strips no types under node_modules.
 *
 * `prepack` compiles src and pipelines to dist, a root of its own with everything at the same relative place (SQL,
 * templates, package.json), and puts the manifest of the package in place of the repository's; `postpack` brings that
 * back. The repository itself goes on running from source. Plain JavaScript, for the Node that npm runs on (>= 20).
 */
import { execFileSync } from "node:child_process"
import { chmodSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const at = (...path) => join(root, ...path)
/** The repository's manifest while the package's is in its place. */
const kept = at(".package.source.json")
const read = (path) => JSON.parse(readFileSync(path, "utf8"))
const write = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)

const restore = () => {
  if (!existsSync(kept)) return
  cpSync(kept, at("package.json"))
  rmSync(kept)
}

/** `types` first: the first condition that fits counts. */
const compiled = (folder) => ({ types: `${folder}/*.d.ts`, default: `${folder}/*.js` })

const build = () => {
  if (!existsSync(at("node_modules", ".bin", "tsc"))) {
    execFileSync("npx", ["-y", "pnpm@10", "install", "--frozen-lockfile"], { cwd: root, stdio: ["ignore", 2, 2] })
  }
  rmSync(at("dist"), { recursive: true, force: true })
  execFileSync(at("node_modules", ".bin", "tsc"), ["-p", "tsconfig.build.json"], { cwd: root, stdio: ["ignore", 2, 2] })
  for (const folder of ["migrations", "views", "queries"]) {
    cpSync(at("warehouse", folder), at("dist", "warehouse", folder), { recursive: true })
  }
  cpSync(at("templates"), at("dist", "templates"), { recursive: true })
  for (const file of ["compileCache.mjs", "launch.mjs", "withoutCuda.mjs"]) {
    cpSync(at("src", "cli", file), at("dist", "src", "cli", file))
  }
  chmodSync(at("dist", "src", "cli", "launch.mjs"), 0o755)
}

const prepack = () => {
  restore()
  build()
  const { scripts: _, devDependencies, ...source } = read(at("package.json"))
  // The compiler, for users' folders to name the same one; and Node, which runs what is installed.
  const manifest = {
    ...source,
    scripts: { preinstall: "node dist/src/cli/withoutCuda.mjs" },
    bin: { exp: "dist/src/cli/launch.mjs" },
    engines: { node: ">=20" },
    files: ["dist", "docs", "experiments"],
    exports: { "./pipelines/*": compiled("./dist/pipelines"), "./*": compiled("./dist/src") },
    dependencies: { ...source.dependencies, node: devDependencies.node }
  }
  const { name, version, type, license, dependencies } = manifest
  const inside = {
    name,
    version,
    type,
    license,
    private: true,
    exports: { "./pipelines/*": compiled("./pipelines"), "./*": compiled("./src") },
    dependencies,
    devDependencies
  }
  write(at("dist", "package.json"), inside)
  cpSync(at("package.json"), kept)
  write(at("package.json"), manifest)
}

const [, , step] = process.argv
if (step === "prepack") prepack()
else if (step === "postpack") restore()
else {
  console.error("usage: node scripts/package.mjs prepack | postpack")
  process.exit(2)
}
