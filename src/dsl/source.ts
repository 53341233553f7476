/**
 * What a source file comes to: the hash of its normalised code, and what it imports. Both by esbuild, so they see
 * what a JavaScript engine would see.
 */
import { createRequire } from "node:module"
import { extname } from "node:path"
import type { Loader, Plugin } from "esbuild"
import { sha256 } from "./canonical.ts"

export interface SourceFacts {
  /** Of the source with types and comments removed and white space normalised. */
  readonly sha256: string
  /** Specifiers of static imports, re-exports and dynamic imports of literals, sorted; type-only ones are gone. */
  readonly imports: ReadonlyArray<string>
}

/** Another esbuild may print otherwise. */
export const sourceLoader: string = `esbuild-${(createRequire(import.meta.url)("esbuild/package.json") as { version: string }).version}`

const loaders: Readonly<Record<string, Loader>> = {
  ".ts": "ts",
  ".mts": "ts",
  ".cts": "ts",
  ".tsx": "tsx",
  ".js": "js",
  ".mjs": "js",
  ".cjs": "js",
  ".jsx": "jsx"
}

/** Type-only imports vanish and all others stay, as in Node's own type stripping. */
const tsconfigRaw = { compilerOptions: { verbatimModuleSyntax: true, target: "esnext" } } as const

/**
 * @param memo facts by the hash of ending and source; found ones are added
 * @throws Error with esbuild's message when a source is no JavaScript or TypeScript
 */
export const facts = async (
  sources: ReadonlyArray<{ readonly file: string; readonly source: string }>,
  memo: Map<string, SourceFacts>
): Promise<ReadonlyMap<string, SourceFacts>> => {
  const found = new Map<string, SourceFacts>()
  const fresh: Array<{
    readonly file: string
    readonly source: string
    readonly key: string
    readonly loader: Loader
  }> = []
  for (const { file, source } of sources) {
    const loader = loaders[extname(file)]
    const key = sha256(`${extname(file)}\0${source}`)
    const known = memo.get(key)
    if (known !== undefined) found.set(file, known)
    else if (loader === undefined) found.set(file, { sha256: sha256(source), imports: [] })
    else fresh.push({ file, source, key, loader })
  }
  if (fresh.length === 0) return found
  const esbuild = await import("esbuild")
  const imports = new Map<string, Set<string>>(fresh.map(({ file }) => [file, new Set()]))
  const record: Plugin = {
    name: "imports",
    setup: (build) => {
      build.onResolve({ filter: /.*/ }, ({ kind, importer, path }) => {
        if (kind === "entry-point") return undefined
        imports.get(importer)?.add(path)
        return { path, external: true }
      })
    }
  }
  const [codes] = await Promise.all([
    Promise.all(
      fresh.map(({ file, source, loader }) =>
        esbuild.transform(source, {
          sourcefile: file,
          loader,
          tsconfigRaw,
          minifyWhitespace: true,
          legalComments: "none",
          charset: "utf8"
        })
      )
    ),
    esbuild.build({
      entryPoints: fresh.map(({ file }) => file),
      bundle: true,
      write: false,
      outdir: "/",
      format: "esm",
      platform: "node",
      logLevel: "silent",
      tsconfigRaw,
      plugins: [record]
    })
  ])
  for (const [i, { file, key }] of fresh.entries()) {
    const fact = { sha256: sha256(codes[i]!.code), imports: [...imports.get(file)!].sort() }
    memo.set(key, fact)
    found.set(file, fact)
  }
  return found
}
