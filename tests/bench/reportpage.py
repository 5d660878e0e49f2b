# SPDX-License-Identifier: GPL-2.0-or-later
"""The page with all benchmarks: one HTML file, which refers to nothing"""

import html
import sys

try:
    import benchplots
    NO_PLOTS = ''
except ImportError:
    NO_PLOTS = ('There are no pictures: matplotlib is not installed '
                '(package python3-matplotlib).')

STYLE = '''
body { font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto;
       padding: 0 1em; color: #222; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2.5em;
     border-bottom: 1px solid #ccc; } h3 { font-size: 1em; margin: 1.5em 0 0; }
table { border-collapse: collapse; margin: .5em 0; font-size: .9em; }
th, td { padding: .15em .8em; border-bottom: 1px solid #e4e4e4;
         text-align: right; font-variant-numeric: tabular-nums; }
th { border-bottom: 1px solid #888; }
th:first-child, td:first-child { text-align: left; }
ul.claims { list-style: none; padding: 0; }
.holds, .fails, .unknown { display: inline-block; min-width: 7em;
                           font-weight: bold; }
.holds { color: #1a7f37; } .fails { color: #c1121f; } .unknown { color: #666; }
.made { color: #666; font-size: .85em; } svg { max-width: 100%; height: auto; }
'''
MARK = {True: ('holds', 'holds'), False: ('fails', 'FAILS'),
        None: ('unknown', 'not measured')}


def _text(words) -> str:
    return html.escape(str(words))


def _table(header, rows) -> str:
    head = ''.join(f'<th>{_text(word)}</th>' for word in header)
    body = '\n'.join('<tr>' + ''.join(f'<td>{_text(word)}</td>'
                                      for word in row) + '</tr>'
                     for row in rows)
    return f'<table><tr>{head}</tr>\n{body}</table>'


def _claims(claims: list[dict]) -> str:
    lines = []
    for claim in claims:
        kind, word = MARK[claim['holds']]
        lines.append(f'<li><span class="{kind}">{word}</span> '
                     f'{_text(claim["text"])}: {_text(claim["seen"])}</li>')
    return '<ul class="claims">' + '\n'.join(lines) + '</ul>'


def _picture(measured, name: str) -> str:
    return '' if NO_PLOTS else benchplots.svg(measured, name)


def _section(found) -> list[str]:
    name = found.benchmark.name
    lines = [f'<h2 id="{name}">{_text(found.benchmark.title)}</h2>',
             f'<p>{_text(found.benchmark.about)}</p>']
    if found.data is None:
        return lines + ['<p class="fails">It was not measured.</p>']
    lines.append(f'<p class="made">{_text(found.made())}</p>')
    lines += [f'<p class="fails">went wrong while measuring: {_text(what)}</p>'
              for what in found.data['failures']]
    lines.append(_claims(found.claims))
    for number, part in enumerate(found.parts):
        lines += [f'<h3>{_text(part.part.title)}</h3>',
                  _picture(part, f'{name}-{number}'),
                  _table(part.header(), part.table())]
    return lines


def _overview(found: list) -> str:
    rows = []
    for each in found:
        kinds = [claim['holds'] for claim in each.claims] if each.data else []
        link = (f'<a href="#{each.benchmark.name}">'
                f'{_text(each.benchmark.title)}</a>')
        wrong = str(len(each.data['failures'])) if each.data else '-'
        rows.append(f'<tr><td>{link}</td><td>{kinds.count(True)}</td>'
                    f'<td>{kinds.count(False)}</td><td>{kinds.count(None)}'
                    f'</td><td>{wrong}</td></tr>')
    return ('<table><tr><th>benchmark</th><th>claims that hold</th>'
            '<th>fail</th><th>not measured</th><th>went wrong</th></tr>'
            + '\n'.join(rows) + '</table>')


def page(found: list, about: dict) -> str:
    """HTML of all that was found, on a machine that @about describes."""
    if NO_PLOTS:
        print(NO_PLOTS, file=sys.stderr)
    title = 'Benchmarks of qemu-switchover'
    lines = [
        '<!DOCTYPE html>', '<html lang="en"><head><meta charset="utf-8">',
        f'<title>{title}</title><style>{STYLE}</style></head><body>',
        f'<h1>{title}</h1>',
        '<p>The patched QEMU is compared with the unpatched one of the same '
        'source ("stock"), in turns, in one run. A value is the median of the '
        'turns; a ratio is the median of the ratios of pairs, each of one turn. '
        'In the plots each measurement is a dot.</p>',
        _table(['', ''], about.items()), _overview(found),
        f'<p class="fails">{_text(NO_PLOTS)}</p>' if NO_PLOTS else '']
    for each in found:
        lines += _section(each)
    return '\n'.join([*lines, '</body></html>']) + '\n'
