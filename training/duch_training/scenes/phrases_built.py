"""What can be said of houses, car parks, sport, junctions, industry and railways."""

from __future__ import annotations

from duch_training.scenes.grammar import Phrases, Words


def dense(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    roof = w.roof(w.facts.words["roof"])
    roofs = {"different": "roofs of different colours", "snowy": "snowy roofs"}.get(roof, f"{roof} roofs")
    close = w.pick("packed closely together", "close to each other", "in tight rows", "crowded along the streets")
    many = w.pick("many", "lots of", "dozens of", "a great number of")
    small = w.pick("small", "similar", "neighbouring", "closely built")
    streets = w.pick("narrow streets", "parallel streets", "a grid of streets", "straight streets")
    return Phrases(
        (
            "a dense residential area",
            w.pick("a crowded neighbourhood", "a dense housing area", "a densely built suburb"),
            w.pick("a compact residential district", f"a crowded residential area with {roofs}"),
        ),
        (
            f"{many} {small} houses",
            f"{roofs} along {streets}",
            f"houses {close}",
            f"{small} houses with {roofs} and {streets}",
            f"{many} houses between {streets}",
        ),
        (
            f"{many} {small} houses with {roofs} are {close}",
            f"{w.pick('long', 'dense')} rows of {small} houses with {roofs} line {streets}",
            f"{many} {small} houses stand {close}, with {streets} between them",
        ),
    )


def sparse(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    roof = w.roof(w.facts.words["roof"])
    roofs = {"different": "roofs of different colours", "snowy": "snowy roofs"}.get(roof, f"{roof} roofs")
    houses = [w.some("houses"), w.some("houses", w.pick("scattered", "separate", "detached"))]
    one = w.facts.counts["houses"] == 1
    if one:
        roofs = roofs.replace("roofs of different colours", "tiled roof") if roof == "different" else f"{roof} roof"
        houses[1] = w.some("houses", "lonely")
        roofs = f"a {roofs}"
    stand = "stands" if one else "stand"
    details = [houses[0], f"{houses[1]} with {roofs}", w.pick("large gardens", "wide lawns", "big yards")]
    if w.has("pools"):
        details += [w.some("pools"), f"{houses[0]} and {w.some('pools')}"]
    return Phrases(
        (
            "a sparse residential area",
            w.pick(
                "a rural neighbourhood",
                "a loosely built residential area",
                "a quiet country suburb",
                "a thinly settled housing area",
            ),
        ),
        tuple(details),
        (
            f"{houses[1]} with {roofs} {stand} {w.pick('along', 'beside')} a {w.pick('quiet', 'country')} road",
            f"{houses[0]} {stand} {w.pick('on wide lawns', 'in large gardens', 'far apart')}"
            if not one
            else f"{houses[0]} with {roofs} stands in a large garden by the road",
        ),
    )


def parking(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    fill = w.facts.words["fill"]
    # a nearly empty lot of 400 stalls may hold a dozen cars: true, but not what one would say
    many = w.pick("few cars", "only a few cars", "hardly any cars") if fill == "empty" else w.some("cars")
    full = {
        "full": w.pick("full", "crowded", "packed"),
        "half": w.pick("half full", "partly filled"),
        "empty": w.pick("nearly empty", "almost empty"),
    }[fill]
    lot = w.pick("parking lot", "car park")
    details = [
        many,
        w.pick("white stall lines", "marked stalls", "rows of parking spaces"),
        w.pick("rows of cars", "cars in neat rows"),
    ]
    if fill == "empty":
        details[2] = w.pick("few cars", "mostly free stalls")
    if "building" in w.facts.words:
        details.append(f"a {w.roof(w.facts.words['building'])} {w.pick('building', 'roof')} at its side")
    return Phrases(
        ("a parking lot", f"a {full} {lot}", f"a {w.pick('large', 'big')} {lot}"),
        tuple(details),
        (
            f"{many} are parked in {w.pick('straight', 'neat', 'marked')} rows"
            if fill != "empty"
            else f"{many} are parked in the {w.pick('rows', 'stalls')} of a {lot}",
            f"{w.pick('cars of many colours', 'cars')} {'fill' if fill == 'full' else 'stand in'} a {full} {lot}",
            f"{w.pick('rows of stalls', 'the stalls')} of a {lot} are {full}",
        ),
    )


def tanks(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    name = w.facts.words["tank"]
    colour = {"rust": w.pick("rusty", "brown")}.get(name, name)
    tanks = [w.some("tanks"), w.some("tanks", colour), w.some("tanks", w.pick("round", "circular", f"big {colour}"))]
    one = w.facts.counts["tanks"] == 1
    where = w.pick("on a gravel yard", "on bare ground", "at an oil depot", "at a tank farm", "in a yard")
    details = [tanks[1], tanks[0], tanks[2]]
    if not one:
        details.append(f"{tanks[2]} joined by pipes")
    stand = "stands" if one else w.pick("stand", "are built")
    return Phrases(
        ("a tank farm", w.pick("an oil depot", "a fuel depot", "a storage tank site", "a fuel storage yard")),
        tuple(details),
        (
            f"{tanks[1]} {stand} {where}",
            f"{tanks[2]} {stand} {'in rows' if w.facts.words['layout'] == 'rows' else where}",
            f"{tanks[2]} for {w.pick('oil', 'fuel')} {w.pick('throw', 'cast')}{'s a shadow' if one else ' shadows'}",
        ),
    )


def baseball(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    n = w.facts.counts["diamonds"]
    fields = [w.some("diamonds"), w.some("diamonds", w.pick("green", "mown", "well kept"))]
    clay = {"brown": w.pick("brown clay", "reddish clay"), "sandy": w.pick("sandy clay", "pale sand")}[
        w.facts.words["clay"]
    ]
    subject = "a baseball field" if n == 1 else fields[0]
    lie = "lies" if n == 1 else "lie"
    other = (
        w.pick("a baseball diamond", "a ball field", "a baseball ground")
        if n == 1
        else w.pick("a baseball complex", "a group of baseball fields", "a baseball park")
    )
    return Phrases(
        (subject, other),
        (
            f"a {clay} infield" if n == 1 else f"{clay} infields",
            w.pick("a striped outfield", "mown grass", "a fan-shaped lawn")
            if n == 1
            else w.pick("striped outfields", "mown grass"),
            w.pick("white foul lines", "white base lines"),
        ),
        (
            f"{fields[0]} with {clay} {lie} {w.pick('in a park', 'on the grass', 'on open ground')}",
            f"the {w.pick('fan-shaped', 'striped')} lawn of {subject} {w.pick('surrounds', 'borders')} {clay}"
            if n == 1
            else f"{fields[1]} meet {w.pick('in the middle', 'back to back')}",
            f"{fields[1]} {'has' if n == 1 else 'have'} {clay} and {w.pick('white lines', 'mowing stripes')}",
        ),
    )


def tennis(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    colour = w.facts.words["court"]
    n = w.facts.counts["courts"]
    courts = [
        f"{w.number(n)} tennis court{'s' if n > 1 else ''}",
        f"{w.number(n)} {colour} tennis court{'s' if n > 1 else ''}",
    ]
    layout = (
        ""
        if n == 1
        else w.pick("in a row", "side by side")
        if w.facts.words["layout"] == "row"
        else w.pick("in a grid", "in two rows")
    )
    lie = "lies" if n == 1 else "lie"
    ground = w.pick(f"{colour} ground", f"{colour} playing surface{'s' if n > 1 else ''}")
    return Phrases(
        (courts[0], f"{courts[1]} {layout}".strip(), courts[1]),
        (
            w.pick("white lines", "crisp white lines", "nets and white lines"),
            ground,
            f"{ground} and white lines",
        ),
        (
            f"{courts[1]} {lie} {layout or w.pick('on the grass', 'in the open', 'in a park')}",
            f"{courts[0]} with {ground} and white lines {lie} {layout or w.pick('in the middle', 'inside a fence')}",
            f"{courts[1]} {w.be('courts')} {w.pick('marked with white lines', 'ready for play', 'fenced in')}",
            f"{courts[1]} {w.pick(w.be('courts') + ' part of', lie + ' in')} a tennis club",
        ),
    )


def roundabout(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    arms = w.some("arms")
    island = {
        "grass": w.pick("a grassy island", "a round lawn"),
        "trees": w.pick("trees in the middle", "a wooded island"),
        "paved": w.pick("a paved island", "a paved centre"),
    }[w.facts.words["island"]]
    if w.facts.season == "winter" and w.facts.words["island"] == "grass":
        island = w.pick("a snowy island", "a white island")
    circle = w.pick("a roundabout", "a traffic circle", "a circular junction", "a rotary")
    return Phrases(
        ("a roundabout", circle, f"a roundabout with {island}"),
        (
            arms,
            island,
            f"{arms} leading to it",
            w.pick("a ring road around it", "a circular carriageway", f"{arms} joining a ring road"),
        ),
        (
            f"{arms} meet at {circle}",
            f"{arms} {w.pick('join', 'lead into')} a {w.pick('round', 'circular')} road around {island}"
            if "middle" not in island
            else f"{arms} lead to a round road with {island}",
            f"cars {w.pick('drive', 'go')} around {circle} with {island}",
        ),
    )


def intersection(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    three = w.facts.words["arms"] == "three"
    name = (
        w.pick("a t-junction", "a three-way intersection", "a road junction")
        if three
        else w.pick("a crossroads", "a four-way intersection", "a road junction")
    )
    lines = w.pick("lane markings", "painted lines", "stop lines", "road markings")
    zebra = w.pick("zebra crossings", "crosswalks", "pedestrian crossings")
    details = [lines]
    if w.facts.words["zebra"] == "yes":
        details = [zebra, f"{zebra} and {lines}", f"{lines} and {zebra}", f"{zebra} on every arm"]
    if w.facts.words["corner"] == "town" and w.has("buildings"):
        details += [w.some("buildings") + w.pick(" around it", " at its corners") for _ in range(2)]
    mark = details[0] if len(details) == 1 else w.pick(*details[:-1])
    if three:
        roads = w.pick("a side road meets a main road", "one street ends at another", "three roads come together")
        place = w.pick("at a t-junction", "at a junction")
    else:
        roads = w.pick("two roads cross", "two streets cross", "two asphalt roads intersect", "two wide roads cross")
        place = w.pick("at an intersection", "in the middle", "at a junction")
    return Phrases(
        ("an intersection", name),
        tuple(details),
        (
            f"{roads} {place} with {mark}",
            f"{roads} {place} marked by {lines}",
            f"{w.pick('cars', 'vehicles')} {w.pick('wait', 'drive', 'pass')} at {name} with {mark}",
        ),
    )


def industrial(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    roof = w.roof(w.facts.words["roof"])
    sheds = [w.some("sheds"), w.some("sheds", w.pick("large", "big", "industrial"))]
    n = w.facts.counts["sheds"]
    roofs = (
        ("a tiled roof" if roof == "different" else f"a {roof} roof")
        if n == 1
        else ("roofs of different colours" if roof == "different" else f"{roof} roofs")
    )
    if n == 1 and roof == "different":
        roofs = "a flat roof"
    details = [f"{sheds[0]} with {roofs}", sheds[1], w.pick("a paved yard", "a concrete yard", "a factory yard")]
    if w.has("lorries"):
        details += [f"{w.some('lorries')} in the yard"] * 2
    stand = "stands" if n == 1 else "stand"
    return Phrases(
        (
            w.pick("an industrial area", "an industrial site"),
            w.pick("a factory site", "a warehouse area", "an industrial estate", "a logistics site"),
        ),
        tuple(details),
        (
            f"{sheds[1]} with {roofs} {stand} {w.pick('in a paved yard', 'on a factory site')}",
            f"{sheds[0]} with {roofs} {w.pick(w.be('sheds') + ' part of', stand + ' in')} an industrial estate",
            (
                f"{w.some('lorries')} {w.be('lorries')} parked by {sheds[1]}"
                if w.has("lorries")
                else f"{sheds[1]} {w.be('sheds')} {w.pick('lit by the sun', 'seen from above', 'set on concrete')}"
            ),
        ),
    )


def solar(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    panel = w.facts.words["panel"]
    rows, n = w.some("rows"), w.facts.counts["blocks"]
    blocks = w.some("blocks")
    ground = {"winter": "on snowy ground", "dry": "on dry ground"}.get(
        w.facts.season, w.pick("on open ground", "on grassland", "on a meadow")
    )
    return Phrases(
        (
            "a solar farm",
            w.pick("a photovoltaic plant", "a solar park", "a solar power plant", "a field of solar panels"),
        ),
        (
            rows,
            f"{rows} {ground}",
            f"{panel} panels {w.pick('in straight rows', 'in parallel rows')}",
            f"{blocks} {ground}",
            f"{w.pick('long', 'straight')} rows of {panel} solar panels",
        ),
        (
            f"{rows} {w.pick('stand', 'are set up', 'are arranged')} {ground}",
            f"{blocks} {'stands' if n == 1 else 'stand'} {ground}",
            f"{w.pick('long', 'straight', 'parallel')} rows of {panel} solar panels {w.pick('stand', 'lie')} {ground}",
            f"{panel} solar panels {w.pick('lie', 'are lined up', 'stand')} {ground}",
        ),
    )


def railway(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    tracks = [w.some("tracks"), w.some("tracks", "parallel")]
    details = [tracks[1], tracks[0], w.pick("gravel between the tracks", "rails on gravel")]
    clauses = [
        f"{tracks[1]} run {w.pick('side by side', 'straight', 'on gravel', 'across the picture')}",
        f"{w.pick('rails', 'railway lines')} spread over a {w.pick('wide', 'broad', 'gravel')} yard with {tracks[0]}",
    ]
    if w.has("trains"):
        train = w.some("trains")
        be = w.be("trains")
        details += [train, f"{train} on {tracks[0]}"]
        clauses += [
            f"{train} {be} {w.pick('standing', 'parked', 'waiting')} on the tracks of a rail yard",
            f"{w.pick('coloured wagons', 'freight cars', 'wagons')} of {train} stand on {tracks[0]}",
        ]
    else:
        clauses.append(f"{tracks[0]} of a rail yard are {w.pick('empty', 'free of trains')}")
    return Phrases(
        ("a railway yard", w.pick("a rail yard", "a train yard", "a marshalling yard", "a freight railway station")),
        tuple(details),
        tuple(clauses),
    )


def stadium(w: Words) -> Phrases:
    """Phrases of the class; counts, colours and layout come from the facts."""
    stand = w.facts.words["stand"]
    rows = f"{stand} {w.pick('stands', 'seats', 'grandstands')}"
    pitch = w.pick("a striped pitch", "a green pitch", "a football pitch", "a soccer field")
    details = [rows, f"{rows} around {pitch}", f"{rows} and {pitch}", f"{pitch} inside {rows}"]
    clauses = [
        f"{w.pick('oval', 'round')} {stand} stands surround a {w.pick('green', 'striped', 'football')} pitch",
        f"a football pitch lies inside {w.pick('a ring of', 'oval')} {stand} {w.pick('stands', 'grandstands')}",
    ]
    if w.facts.words["track"] == "yes":
        details += [w.pick("a red running track", "a running track around the pitch")] * 2
        clauses.append(f"a {w.pick('red', 'reddish')} running track rings the pitch inside {stand} stands")
    else:
        clauses.append(
            f"{stand} stands {w.pick('rise close to', 'enclose')} the pitch of a {w.pick('football', 'soccer')} ground"
        )
    return Phrases(
        ("a stadium", w.pick("a football stadium", "a soccer stadium", "a sports stadium", "an oval arena")),
        tuple(details),
        tuple(clauses),
    )
