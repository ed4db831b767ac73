"""What can be said of airports, runways, water, forest and farmland."""

from __future__ import annotations

from duch_training.scenes.grammar import Phrases, Words


def airport(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    planes = [w.some("planes", a) for a in ("", "", "white", "parked")]
    be, roof = w.be("planes"), w.facts.words["roof"]
    terminal = w.pick("a terminal building", "a terminal", f"a {w.roof(roof)} terminal", "the terminal")
    return Phrases(
        (
            "an airport",
            w.pick("an airport apron", "the apron of an airport", "an airfield terminal area", "a busy airport")
            if w.facts.counts["planes"] > 3
            else w.pick("an airport apron", "a quiet airport", "part of an airport"),
        ),
        (planes[0], f"{planes[1]} on the concrete", f"{planes[2]} near {terminal}"),
        (
            f"{planes[0]} {be} parked at an airport",
            f"{planes[1]} {be} parked near {terminal}",
            f"{planes[2]} {'stands' if be == 'is' else 'stand'} on the apron of an airport",
            f"{planes[0]} {be} {w.pick('waiting', 'parked')} beside {terminal}",
            f"{terminal} with {planes[3]} in front of it",
        ),
    )


def runway(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    layout = w.facts.words["layout"]
    strips = {
        "single": (w.pick("a runway", "a long runway", "an airport runway"), w.pick("a landing strip", "an airstrip")),
        "parallel": ("two parallel runways", w.pick("a pair of parallel runways", "two runways side by side")),
        "crossing": ("two crossing runways", w.pick("two runways that cross", "a pair of intersecting runways")),
    }[layout]
    details = [w.pick("white markings", "painted lines", "white centre lines")]
    if w.facts.words["threshold"] == "yes":
        details.append(w.pick("threshold stripes at its end", "white threshold bars"))
    if "taxiway" in w.facts.words:
        details.append(w.pick("a taxiway alongside", "a narrow taxiway", "a taxiway"))
    if w.has("planes"):
        details += [f"{w.some('planes')} on it", f"{w.some('planes')} on it"]
    verb = "runs" if layout == "single" else "run"
    strip = strips[int(w.rng.integers(2))]
    over = {"winter": "over snowy ground", "dry": "over dry ground"}.get(w.facts.season, "across the grass")
    clauses = [
        f"{strip} with {details[0]} {verb} {over}",
        f"{strips[0]} {verb} {w.pick('straight', 'diagonally', 'right')} {over}"
        if w.chance(0.2)
        else f"{strips[0]} {verb} {over}",
    ]
    if w.has("planes"):
        clauses.append(f"{w.some('planes')} is {w.pick('rolling', 'standing', 'about to take off')} on {strips[0]}")
    else:
        clauses.append(f"{strips[1]} without any aircraft and with {details[-1]}")
    return Phrases(strips, tuple(details), tuple(clauses))


def harbour(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    marina = w.facts.words["kind"] == "marina"
    key = "yachts" if marina else "ships"
    ships = [w.some("ships", noun=key) for _ in range(3)]
    piers, be = w.some("piers"), w.be("ships")
    moored = w.pick("moored", "docked", "berthed")
    name = w.facts.words["water"]
    return Phrases(
        (
            "a harbour",
            w.pick("a marina", "a small marina", "a yacht harbour", "a boat harbour")
            if marina
            else w.pick("a port", "a cargo port", "a ship harbour", "a sea port"),
        ),
        (ships[0], f"{ships[1]} {moored} at {piers}", f"{piers} and {ships[2]}", f"{name} water and {piers}"),
        (
            f"{ships[0]} {be} {moored} at {w.pick('the pier', 'the quay', 'the docks')}"
            if w.facts.counts["piers"] == 1
            else f"{ships[0]} {be} {moored} at {piers}",
            f"{piers} {'reaches' if w.facts.counts['piers'] == 1 else 'reach'} into the {name} water of a harbour",
            f"{ships[1]} {be} {moored} in a {'marina' if marina else 'port'} with {piers}",
        ),
    )


def river(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    name, shape = w.facts.words["water"], w.facts.words["shape"]
    curve = (
        w.pick("winding", "curved", "meandering") if shape == "winding" else w.pick("wide", "calm", "nearly straight")
    )
    land = {"summer": "green land", "autumn": "autumn land", "winter": "snowy land", "dry": "dry land"}[w.facts.season]
    flows = w.pick("winds" if shape == "winding" else "runs", "flows")
    details = [
        f"{name} water",
        w.pick("trees on its banks", "trees along the banks"),
        f"{name} water between its banks",
    ]
    clauses = [
        f"a {curve} {w.pick(name, name, '')} river {flows} {w.pick('through', 'across')} {land}",
        f"a {name} river {flows} {w.pick('across', 'through')} {land}",
    ]
    if w.has("bridges"):
        bridge = w.some("bridges")
        details += [f"{bridge} over it", bridge]
        clauses.append(f"{bridge} {'spans' if w.facts.counts['bridges'] == 1 else 'span'} a {name} river")
    if w.has("boats"):
        boats = w.some("boats")
        details.append(f"{boats} on it")
        clauses.append(f"{boats} {w.be('boats')} on a {curve} river")
    for relation, thing in w.facts.context:
        if relation == "through":
            clauses.append(
                f"a {curve} river winds through {thing}" if shape == "winding" else f"a river runs between {thing}"
            )
    return Phrases(("a river", f"a {curve} river", f"a {curve} {name} river"), tuple(details), tuple(clauses))


def lake(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    name = w.facts.words["water"]
    adjective = "frozen" if name == "frozen" else w.pick(name, name, "small", "quiet")
    body = w.pick("lake", "lake", "lake", "reservoir")
    matter = "ice" if name == "frozen" else f"{name} water"
    surround = {"summer": "green land", "autumn": "brownish autumn land", "winter": "snow", "dry": "dry land"}
    land = surround[w.facts.season]
    details = [
        w.pick("an uneven shore", "a curved shoreline", "an irregular shore"),
        w.pick("still water", "calm water"),
    ]
    if name == "frozen":
        details[1] = w.pick("ice on it", "a sheet of ice")
    clauses = [
        f"a {adjective} {body} {w.pick('lies', 'is set')} in {land}",
        f"a {body} with {matter} {w.pick('is surrounded by', 'lies amid')} {land}",
    ]
    if w.has("islands"):
        details += [f"{w.some('islands')} in it", f"{w.some('islands', 'wooded')}"]
        clauses.append(f"{w.some('islands')} {w.be('islands')} in the middle of a {adjective} lake")
    if w.has("boats"):
        details.append(f"{w.some('boats')} on it")
        clauses.append(f"{w.some('boats')} {'floats' if w.facts.counts['boats'] == 1 else 'float'} on a {body}")
    return Phrases(("a lake", f"a {adjective} {body}"), tuple(details), tuple(clauses))


def beach(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    name = w.facts.words["water"]
    sea = w.pick(f"{name} sea", f"{name} ocean", f"{name} water")
    details = [
        w.pick("white waves", "white surf", "foaming waves"),
        f"{sea} beside the sand",
        w.pick("pale sand", "a band of pale sand", "wet sand at the waterline"),
    ]
    clauses = [
        f"{w.pick('white waves', 'waves', 'foamy waves')} {w.pick('roll onto', 'reach', 'wash')} a sandy beach",
        f"a {w.pick('strip', 'band', 'belt')} of sand {w.pick('borders', 'lies beside', 'meets')} the {sea}",
    ]
    if w.has("umbrellas"):
        details += [f"{w.some('umbrellas')} on the sand"] * 2
        clauses.append(
            f"{w.some('umbrellas')} {'stands' if w.facts.counts['umbrellas'] == 1 else 'stand'} on the sand by the sea"
        )
    if w.has("boats"):
        details.append(f"{w.some('boats')} offshore")
        clauses.append(f"{w.some('boats')} {w.be('boats')} off a sandy beach")
    if w.has("houses"):
        clauses.append(f"a beach with {details[0]} lies in front of {w.some('houses')}")
    return Phrases(
        (
            "a beach",
            w.pick("a sandy beach", "a sandy shore", "a beach by the sea", "a sandy coast", f"a beach by the {sea}"),
        ),
        tuple(details),
        tuple(clauses),
    )


def forest(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    kind, density = w.facts.words["kind"], w.facts.words["density"]
    leaf = {"broadleaf": w.pick("broadleaf", "deciduous", "leafy"), "conifer": w.pick("conifer", "pine", "evergreen"),
            "mixed": "mixed"}[kind]  # fmt: skip
    thick = w.pick("dense", "thick") if density == "dense" else w.pick("open", "light")
    colour = {"summer": "green", "autumn": "orange and brown", "winter": "bare", "dry": "olive green"}[w.facts.season]
    if kind == "conifer":
        colour = "dark green"
    elif kind == "mixed":
        colour = w.pick("dark and light", "different")
    crowns = w.pick("tree crowns", "treetops", "trees")
    return Phrases(
        ("a forest", f"a {thick} forest", f"a {thick} {leaf} forest", f"a {leaf} {w.pick('forest', 'wood')}"),
        (
            f"{colour} {crowns}",
            w.pick("many trees", "countless trees"),
            f"{colour} trees standing {w.pick('close together', 'tightly') if density == 'dense' else 'loosely'}",
        ),
        (
            f"{w.pick('many', 'countless')} {colour} trees {w.pick('form', 'make up')} a {thick} forest",
            f"the ground is {w.pick('covered', 'hidden')} by the {colour} {crowns} of a {thick} forest",
            f"{colour} {crowns} of a {leaf} forest {w.pick('fill the picture', 'cover everything')}",
        ),
    )


def farmland(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    colours = w.facts.words["colours"] or "bare"
    if w.facts.season == "winter":
        colours = "snow-covered"
    if w.facts.words["layout"] == "round":
        rounds = w.some("circles") if w.has("circles") else "round fields"
        rounds2 = w.some("circles", w.pick("irrigated", colours)) if w.has("circles") else "circular irrigated fields"
        return Phrases(
            ("farmland", w.pick("irrigated farmland", "cropland with pivot irrigation", "farmland with round fields")),
            (rounds, rounds2, f"{colours} crop circles"),
            (
                f"{rounds} {'lies' if w.facts.counts.get('circles') == 1 else 'lie'} on {w.pick('bare', 'open')} land",
                f"{colours} crops grow in {w.pick('circles', 'round irrigated fields')}",
                f"centre pivot irrigation makes {w.pick('round', 'circular')} {colours} fields",
            ),
        )
    fields = w.pick("fields", "crop fields", "rectangular fields", "farm fields")
    rows = w.pick("straight furrows", "plough lines", "crop rows")
    return Phrases(
        ("farmland", w.pick("a patchwork of fields", "cultivated farmland", "cropland", "a mosaic of farm fields")),
        (
            f"{colours} {fields}",
            f"{colours} {fields} with {rows}",
            f"{colours} {fields} of {w.pick('different', 'various')} sizes",
        ),
        (
            f"{colours} {fields} {w.pick('lie side by side', 'form a patchwork', 'are divided by straight borders')}",
            f"{w.pick('several', 'many')} pieces of {colours} farmland {w.pick('lie together', 'are neatly arranged')}",
            f"{colours} {fields} with {rows} cover the {w.pick('land', 'countryside')}",
        ),
    )
