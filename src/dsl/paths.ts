/**
 * What a pipeline's parameter Schema says about dotted paths: which there are, where a union, a file or a default
 * stands. It looks at the encoded side, which is what YAML spells.
 */
import { type Schema, SchemaAST } from "effect"
import { type FileWanted, fileAnnotation, type OwnSection, ownAnnotation } from "./param.ts"

export type Ast = SchemaAST.AST

/** The encoded side of a Schema. */
export const encodedAst = (schema: Schema.Top): Ast => SchemaAST.toEncoded(schema.ast)

/** The members that a value may have, unions and recursion opened. */
export const members = (ast: Ast): ReadonlyArray<Ast> =>
  SchemaAST.isUnion(ast) ? ast.types.flatMap(members) : SchemaAST.isSuspend(ast) ? members(ast.thunk()) : [ast]

/** Whether a file or model path is written here as one string, and which. */
export const fileAt = (ast: Ast): FileWanted | undefined => {
  const found = SchemaAST.resolveAt<FileWanted>(fileAnnotation)(ast)
  if (found !== undefined) return found
  for (const member of members(ast)) if (member !== ast && fileAt(member) !== undefined) return fileAt(member)
  return undefined
}

const isOpen = (ast: Ast): boolean =>
  SchemaAST.isAny(ast) || SchemaAST.isUnknown(ast) || SchemaAST.isObjectKeyword(ast) || SchemaAST.isDeclaration(ast)

/** The members that are written as objects. */
export const objects = (ast: Ast): ReadonlyArray<SchemaAST.Objects> =>
  members(ast).filter((m): m is SchemaAST.Objects => SchemaAST.isObjects(m) && fileAt(m) === undefined)

/** What may stand under a key, by any member; empty where no member has the key. */
export const under = (ast: Ast, key: string): ReadonlyArray<Ast> =>
  members(ast).flatMap((member) => {
    if (isOpen(member)) return [SchemaAST.unknown]
    if (!SchemaAST.isObjects(member) || fileAt(member) !== undefined) return []
    const named = member.propertySignatures.filter((p) => p.name === key).map((p) => p.type)
    return named.length > 0 ? named : member.indexSignatures.map((s) => s.type)
  })

/** What a section under this key is, where it is one of a user's own. */
export const ownUnder = (ast: Ast, key: string): OwnSection | undefined =>
  keysOf(ast).includes(key) ? undefined : under(ast, key).flatMap((inner) => ownAt(inner) ?? [])[0]

export const ownAt = (ast: Ast): OwnSection | undefined => SchemaAST.resolveAt<OwnSection>(ownAnnotation)(ast)

/** `under`, for one Schema node again: a union if there are several. */
export const step = (ast: Ast, key: string): Ast | undefined => {
  const found = under(ast, key)
  return found.length < 2 ? found[0] : new SchemaAST.Union(found)
}

/** What stands at a dotted path, or undefined where the Schema has no such path. */
export const at = (ast: Ast, path: ReadonlyArray<string>): Ast | undefined => {
  let here: Ast | undefined = ast
  for (const segment of path) {
    here = step(here, segment)
    if (here === undefined) return undefined
  }
  return here
}

export const has = (ast: Ast, path: ReadonlyArray<string>): boolean => at(ast, path) !== undefined

/** Named keys of an object, over all members. */
export const keysOf = (ast: Ast): ReadonlyArray<string> => [
  ...new Set(objects(ast).flatMap((member) => member.propertySignatures.map((p) => String(p.name))))
]

/** Every dotted path: sections before their keys, in the Schema's order. Recursive Schemas are followed eight deep. */
export const knownPaths = (ast: Ast, prefix: ReadonlyArray<string> = []): ReadonlyArray<string> =>
  prefix.length >= 8
    ? []
    : keysOf(ast).flatMap((key) => {
        const path = [...prefix, key]
        return [path.join("."), ...under(ast, key).flatMap((inner) => knownPaths(inner, path))]
      })

/** The literals that an object member fixes under its keys: what tells members of a union apart. */
export const tagsOf = (member: SchemaAST.Objects): ReadonlyMap<string, unknown> =>
  new Map(
    member.propertySignatures.flatMap((p) =>
      SchemaAST.isLiteral(p.type) ? [[String(p.name), p.type.literal] as const] : []
    )
  )

/** The key that tells all object members apart, with each one's literal; undefined where there is no such key. */
export const discriminator = (
  ast: Ast
): { readonly tag: string; readonly variants: ReadonlyMap<unknown, SchemaAST.Objects> } | undefined => {
  const all = objects(ast)
  if (all.length < 2) return undefined
  for (const tag of tagsOf(all[0]!).keys()) {
    const variants = new Map(
      all.flatMap((member) => (tagsOf(member).has(tag) ? [[tagsOf(member).get(tag), member] as const] : []))
    )
    if (variants.size === all.length) return { tag, variants }
  }
  return undefined
}

export const descriptionOf = (ast: Ast): string | undefined => SchemaAST.resolveDescription(ast)

/** The default as YAML would spell it; `undefined` where there is none. */
export const defaultOf = (ast: Ast): unknown => SchemaAST.resolveAt<unknown>("default")(ast)
