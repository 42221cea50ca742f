import { type Static, Type } from 'typebox'

// What Grafana takes as a dashboard, as far as ours goes: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
// Names that are not here are refused: Grafana leaves out without a word what is misspelt.

const closed = <P extends Parameters<typeof Type.Object>[0]>(properties: P) =>
  Type.Object(properties, { additionalProperties: false })
const text = Type.String({ minLength: 1 })
const datasource = closed({ type: Type.Literal('prometheus'), uid: Type.Literal(`\${source}`) })
const shown = closed({ text, value: text })
const query = closed({
  ...{ name: text, label: text, type: Type.Literal('query'), datasource, query: closed({ query: text, refId: text }) },
  ...{ refresh: Type.Union([Type.Literal(1), Type.Literal(2)]), includeAll: Type.Boolean(), multi: Type.Boolean() },
  ...{ allValue: Type.Optional(text), current: shown },
})
const source = closed({ name: text, label: text, type: Type.Literal('datasource'), query: Type.Literal('prometheus') })
const step = closed({ color: text, value: Type.Union([Type.Null(), Type.Number()]) })
const units = ['short', 's', 'bytes', 'ops', 'reqps', 'percentunit', 'none'].map((unit) => Type.Literal(unit))
const defaults = closed({
  unit: Type.Union(units),
  noValue: Type.Optional(text),
  min: Type.Optional(Type.Number()),
  max: Type.Optional(Type.Number()),
  custom: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  mappings: Type.Optional(
    Type.Array(
      closed({ type: Type.Literal('value'), options: Type.Record(Type.String(), closed({ text, color: text })) }),
    ),
  ),
  thresholds: Type.Optional(closed({ mode: Type.Literal('absolute'), steps: Type.Array(step, { minItems: 1 }) })),
})
const panel = closed({
  id: Type.Integer({ minimum: 1 }),
  type: Type.Union([Type.Literal('stat'), Type.Literal('timeseries')]),
  ...{ title: text, description: Type.String(), datasource },
  gridPos: closed({
    x: Type.Integer({ minimum: 0, maximum: 23 }),
    y: Type.Integer({ minimum: 0 }),
    w: Type.Integer({ minimum: 1, maximum: 24 }),
    h: Type.Integer({ minimum: 1 }),
  }),
  fieldConfig: closed({ defaults, overrides: Type.Array(Type.Unknown(), { maxItems: 0 }) }),
  targets: Type.Array(closed({ refId: Type.String({ pattern: '^[A-Z]$' }), datasource, expr: text, legendFormat: text }), { minItems: 1 }), // biome-ignore format: long
  options: Type.Record(Type.String(), Type.Unknown()),
})

export const Dashboard = closed({
  ...{ title: text, uid: Type.String({ pattern: '^[\\w-]{1,40}$' }), schemaVersion: Type.Literal(39) },
  ...{ version: Type.Integer(), editable: Type.Boolean(), tags: Type.Array(text), refresh: text },
  time: closed({ from: text, to: text }),
  templating: closed({ list: Type.Array(Type.Union([source, query]), { minItems: 1 }) }),
  annotations: closed({ list: Type.Array(Type.Unknown(), { maxItems: 0 }) }),
  panels: Type.Array(panel, { minItems: 1 }),
})
export type Dashboard = Static<typeof Dashboard>
