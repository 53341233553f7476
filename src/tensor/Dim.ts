/**
 * Dimensions: a number, or a polynomial with integer coefficients in named dimensions such as `batch*time` or
 * `past + time`. Every polynomial has one canonical form, so equality is equality of texts. A factor may also be
 * `ceil(numerator/denominator)`, which counts chunks.
 */

/** A name such as `batch`, or the rounded-up quotient of two dimensions. `text` identifies it. */
export type Atom =
  | { readonly kind: "name"; readonly name: string; readonly text: string }
  | { readonly kind: "ceil"; readonly numerator: Dim; readonly denominator: Dim; readonly text: string }

/** `coefficient * product(atoms)`; atoms are sorted by text and may repeat; none means a constant term. */
export interface Term {
  readonly coefficient: number
  readonly atoms: readonly Atom[]
}

/** A sum of terms in canonical order, never a mere constant (that is a number). */
export interface Polynomial {
  readonly terms: readonly Term[]
  readonly text: string
}

export type Dim = number | Polynomial
export type Shape = readonly Dim[]

/** What callers may write for a dimension: a size, a name, or a computed dimension. */
export type DimLike = Dim | string
export type ShapeLike = readonly DimLike[]

/** Sizes of named dimensions. */
export type Bindings = Readonly<Record<string, number>>

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

const byText = (a: { readonly text: string }, b: { readonly text: string }) =>
  a.text < b.text ? -1 : a.text > b.text ? 1 : 0

const monomialText = (atoms: readonly Atom[]) => atoms.map((atom) => atom.text).join("*")

const termText = ({ coefficient, atoms }: Term) => {
  if (atoms.length === 0) return `${coefficient}`
  return coefficient === 1 ? monomialText(atoms) : `${coefficient}*${monomialText(atoms)}`
}

const fromTerms = (terms: readonly Term[]): Dim => {
  const sums = new Map<string, Term>()
  for (const term of terms) {
    const key = monomialText(term.atoms)
    const known = sums.get(key)
    sums.set(key, { atoms: term.atoms, coefficient: term.coefficient + (known?.coefficient ?? 0) })
  }
  const kept = [...sums].filter(([, term]) => term.coefficient !== 0)
  if (kept.length === 0) return 0
  if (kept.length === 1 && kept[0]![1].atoms.length === 0) return kept[0]![1].coefficient
  // higher degrees first, constants last
  kept.sort(([a, x], [b, y]) => y.atoms.length - x.atoms.length || (a < b ? -1 : 1))
  const sorted = kept.map(([, term]) => term)
  return { terms: sorted, text: sorted.map(termText).join("+").replaceAll("+-", "-") }
}

const termsOf = (dim: Dim): readonly Term[] =>
  typeof dim === "number" ? (dim === 0 ? [] : [{ coefficient: dim, atoms: [] }]) : dim.terms

/** A named dimension. */
export const namedDim = (name: string): Dim => {
  if (!NAME.test(name)) throw new RangeError(`"${name}" is no dimension name: use letters, digits and underscores`)
  return fromTerms([{ coefficient: 1, atoms: [{ kind: "name", name, text: name }] }])
}

/** A size, a name or a dimension as a dimension. Sizes must be non-negative integers. */
export const toDim = (dim: DimLike): Dim => {
  if (typeof dim === "string") return namedDim(dim)
  if (typeof dim === "number" && !(Number.isSafeInteger(dim) && dim >= 0))
    throw new RangeError(`a dimension must be a non-negative integer, not ${dim}`)
  return dim
}

export const toShape = (shape: ShapeLike): Shape => shape.map(toDim)

/** Readable canonical text: `batch*time`, `past+time`, `ceil(tokens/2048)`. */
export const dimText = (dim: Dim): string => (typeof dim === "number" ? `${dim}` : dim.text)
export const shapeText = (shape: Shape): string => `[${shape.map(dimText).join(", ")}]`

export const equalDims = (a: Dim, b: Dim): boolean =>
  typeof a === "number" || typeof b === "number" ? a === b : a.text === b.text
export const equalShapes = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((dim, i) => equalDims(dim, b[i]!))

const like = (dim: DimLike): Dim => (typeof dim === "string" ? namedDim(dim) : dim)

export const addDims = (a: DimLike, b: DimLike): Dim => fromTerms([...termsOf(like(a)), ...termsOf(like(b))])

export const subtractDims = (a: DimLike, b: DimLike): Dim => addDims(a, multiplyDims(b, -1))

export const multiplyDims = (a: DimLike, b: DimLike): Dim => {
  const right = termsOf(like(b))
  return fromTerms(
    termsOf(like(a)).flatMap((x) =>
      right.map((y) => ({
        coefficient: x.coefficient * y.coefficient,
        atoms: [...x.atoms, ...y.atoms].sort(byText)
      }))
    )
  )
}

/** The number of elements of a shape. */
export const sizeOf = (shape: ShapeLike): Dim => shape.reduce<Dim>((size, dim) => multiplyDims(size, dim), 1)

const quotient = (a: Dim, b: Dim): Dim | undefined => {
  if (equalDims(a, b) && b !== 0) return 1
  const divisor = termsOf(b)
  if (divisor.length !== 1) return undefined
  const terms: Term[] = []
  for (const term of termsOf(a)) {
    const coefficient = term.coefficient / divisor[0]!.coefficient
    if (!Number.isInteger(coefficient)) return undefined
    const atoms = [...term.atoms]
    for (const atom of divisor[0]!.atoms) {
      const at = atoms.findIndex((other) => other.text === atom.text)
      if (at < 0) return undefined
      atoms.splice(at, 1)
    }
    terms.push({ coefficient, atoms })
  }
  return fromTerms(terms)
}

/** `a / b` where b is one term and divides every term of a. Throws a RangeError where it does not. */
export const divideDims = (a: DimLike, b: DimLike): Dim => {
  const result = quotient(like(a), like(b))
  if (result === undefined) throw new RangeError(`${dimText(like(b))} does not divide ${dimText(like(a))}`)
  return result
}

/** `a / b`, rounded up; stays symbolic where it must. */
export const ceilDivideDims = (a: DimLike, b: DimLike): Dim => {
  const numerator = like(a)
  const denominator = like(b)
  if (denominator === 0) throw new RangeError(`${dimText(numerator)} cannot be divided by 0`)
  const exact = quotient(numerator, denominator)
  if (exact !== undefined) return exact
  if (typeof numerator === "number" && typeof denominator === "number") return Math.ceil(numerator / denominator)
  const text = `ceil(${dimText(numerator)}/${typeof denominator === "number" ? denominator : `(${denominator.text})`})`
  return fromTerms([{ coefficient: 1, atoms: [{ kind: "ceil", numerator, denominator, text }] }])
}

/** Replaces named dimensions by dimensions; names without a replacement stay. */
export const substituteDim = (dim: Dim, by: Readonly<Record<string, DimLike>>): Dim => {
  if (typeof dim === "number") return dim
  const atom = (a: Atom): Dim => {
    if (a.kind === "ceil") return ceilDivideDims(substituteDim(a.numerator, by), substituteDim(a.denominator, by))
    const value = Object.hasOwn(by, a.name) ? by[a.name] : undefined
    return value === undefined ? namedDim(a.name) : like(value)
  }
  return dim.terms.reduce<Dim>(
    (sum, term) => addDims(sum, term.atoms.map(atom).reduce<Dim>(multiplyDims, term.coefficient)),
    0
  )
}

/** The size of a dimension under bindings. Throws a RangeError that names a dimension without a size. */
export const evaluateDim = (dim: Dim, bindings: Bindings): number => {
  const value = substituteDim(dim, bindings)
  if (typeof value === "number") return value
  throw new RangeError(`dimension ${value.text} has no size: bind ${dimNames(value).join(", ")}`)
}

/** The names that a dimension is made of, sorted. */
export const dimNames = (dim: Dim): readonly string[] => {
  if (typeof dim === "number") return []
  const names = dim.terms.flatMap((term) =>
    term.atoms.flatMap((atom) =>
      atom.kind === "name" ? [atom.name] : [...dimNames(atom.numerator), ...dimNames(atom.denominator)]
    )
  )
  return [...new Set(names)].sort()
}

/** The size of a numpy-style broadcast of two dimensions, or undefined where they do not fit. */
export const broadcastDim = (a: Dim, b: Dim): Dim | undefined =>
  equalDims(a, b) || b === 1 ? a : a === 1 ? b : undefined

/** The numpy-style broadcast of two shapes, or undefined where they do not fit. */
export const broadcastShapes = (a: Shape, b: Shape): Shape | undefined => {
  const rank = Math.max(a.length, b.length)
  const result: Dim[] = []
  for (let i = 0; i < rank; i++) {
    const dim = broadcastDim(a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1)
    if (dim === undefined) return undefined
    result.push(dim)
  }
  return result
}
