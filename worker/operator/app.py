"""The operator's routes: sign-in, pages, actions, and the same as JSON.

How the pages plug in. `worker/operator/pages.py` has a class that fulfils `Pages` of `worker/operator/visit.py`: a page
for each path below /operator, the files that pages refer to, the form for signing in, and the page of a refusal. This
module decides who sees them. It gives a page a `Visit`; the page loads its view (`worker/operator/views`) from
`visit.sources` and returns HTML. All links are relative (`visit.root`), so that a proxy's path prefix stays.

A form of a page posts to `{root}actions/NAME`, with these fields: `form_token` (of the visit), what the action needs
(see `worker/operator/actions.py`), and `back`, the path below /operator that the browser is sent to afterwards, such as
`connections/ID`. That page's visit then has a `notice`. The form for signing out posts `form_token` to
`{root}sign-out`.

| action | fields |
| --- | --- |
| `refresh`, `sync` | `connection_id` |
| `disconnect` | `connection_id`, `erase` ("yes" or nothing), `confirmation`: the user's id, as the operator typed it |
| `pause`, `resume`, `hold`, `release` | `provider` |
| `accept` | `provider`, `confirmation`: the provider's name, as the operator typed it |
| `dead-letter-retry` | `queue`, `key` |
| `dead-letters-retry-all` | |
| `dead-letter-drop` | `queue`, `key`, `confirmation`: "drop" |

The headers of every page allow styles, scripts and images of `/operator/assets/` only, and forms to `/operator` only;
`Referrer-Policy` is `same-origin`, so that a form's `Origin` can be checked.
"""
