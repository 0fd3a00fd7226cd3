from longtail.datasets.palette import generate_palette


def test_colours_are_distinct_visible_and_stable():
    palette = generate_palette(1300)
    assert len(set(palette)) == 1300
    assert all(max(c) > 120 and sum(c) < 700 for c in palette)
    assert generate_palette(5) == palette[:5]
    assert generate_palette(0) == ()
    assert palette[:2] == ((61, 122, 242), (112, 27, 178))


def test_the_first_colours_are_far_apart():
    palette = generate_palette(20)
    nearest = min(sum(abs(a - b) for a, b in zip(p, q, strict=True)) for p in palette for q in palette if p != q)
    assert nearest > 60
